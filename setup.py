"""The Earshot package, in the form that Dataflow's ``--setup_file`` expects."""

from setuptools import find_packages, setup

# The three names below are generic, so the wheel holds exactly these and nothing else (tests/test_house.py asserts it).
PACKAGES = ["beam_pipeline", "transforms", "model_handlers", "demo"]

setup(
    name="earshot-captions",
    version="0.1.0",
    description="Turn video clips into a dataset of audio captions, as one Apache Beam job.",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[*PACKAGES, *(f"{name}.*" for name in PACKAGES)]),
    package_data={
        "beam_pipeline": ["presets/*.toml", "profiles/*.toml", "*/*.css", "*/*.html", "*/*.js"],
        "model_handlers": ["prompts/*.toml"],
        "demo": ["models/*.json", "models/*/*"],
    },
    entry_points={"console_scripts": ["earshot = beam_pipeline.cli:main"]},
    install_requires=[
        "aiohttp",
        "apache-beam==2.77.0",
        "av==18.1.0",
        "fastavro",
        "filelock",
        "huggingface_hub",
        "jinja2",
        "krippendorff",
        "matplotlib",
        "numpy",
        "openai",
        "pillow",
        "py3langid>=0.2.2,<0.5",
        "pyarrow",
        "pydantic>=2",
        "requests",
        "rich",
        "safetensors",
        "scipy",
        "snowballstemmer",
        # One matching release of the three: a torchaudio beside another torch breaks transformers' imports.
        "torch==2.11.0",
        "torchaudio==2.11.0",
        "torchvision==0.26.0",
        "transformers==5.23.0",
        "urllib3",
        "wordcloud",
    ],
    extras_require={
        "gcp": ["apache-beam[gcp]==2.77.0", "google-cloud-secret-manager", "google-cloud-storage"],
        # tensorflow-io's last release, for the last TensorFlow that it works with; excludes gcp, which needs another
        # protobuf than that TensorFlow.
        "tfio": ["tensorflow==2.16.2", "tensorflow-io==0.37.1", "tensorflow-io-gcs-filesystem==0.37.1"],
        # The voice of the demo's occasions, espeak-ng (GPL-3.0): loaded as they are made, never by Earshot itself.
        "demo-speech": ["espeakng-loader==0.2.4"],
        "test": ["pytest", "pytest-timeout", "pytest-xdist"],
        "dev": [
            "accelerate",
            "axe-playwright-python",
            "cryptography",
            "datasets",
            "efficientnet-pytorch==0.7.1",
            "espeakng-loader==0.2.4",
            "gcp-storage-emulator==2026.7.19",
            "lhotse",
            "mypy",
            "pandas",
            "panns-inference==0.1.1",
            "playwright",
            "psutil",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "python-hcl2>=8.1,<9",
            "ruff",
            "setuptools",
            "transformers[serving]==5.23.0",
            "webdataset",
            "wheel",
        ],
    },
)
