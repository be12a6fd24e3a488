# What a dataset lives in: the APIs, two buckets, and a registry of images.

resource "google_project_service" "needed" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "dataflow.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ])

  service            = each.value
  disable_on_destroy = false # others in the project may use it
}

resource "google_storage_bucket" "dataset" {
  name                        = var.dataset_bucket
  location                    = var.region # beside the workers: traffic within a region costs nothing
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # What `earshot gc` or a mistake removes can be had back for a week.
  soft_delete_policy {
    retention_duration_seconds = 604800
  }

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_storage_bucket" "staging" {
  name                        = var.staging_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # Dataflow writes here all the time: keeping what was removed would cost more than it is worth.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    condition {
      age            = 14
      matches_prefix = ["staging/", "temp/"]
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "Earshot's image: workers, launcher and check."

  # Images are large (CUDA, torch, models): untagged ones go after a month, but never the last three.
  cleanup_policies {
    id     = "old"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s"
    }
  }
  cleanup_policies {
    id     = "last"
    action = "KEEP"
    most_recent_versions {
      keep_count = 3
    }
  }

  depends_on = [google_project_service.needed]
}

# The key of the language model's provider. Its value is put in by hand, so that it is in no file, plan or state:
#   gcloud secrets versions add <name>-llm-key --data-file=-
# The profile's row names it: key_secret = "projects/<project>/secrets/<name>-llm-key/versions/latest"
resource "google_secret_manager_secret" "llm_key" {
  secret_id = "${var.name}-llm-key"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.needed]
}
