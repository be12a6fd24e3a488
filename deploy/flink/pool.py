"""A pool of Python workers for one TaskManager: ``python deploy/flink/pool.py HOST:PORT``.

Beam's own (``python -m apache_beam.runners.worker.worker_pool_main --service_port=PORT``) does the same on every
address of its machine. This one takes a single address, so that several TaskManagers of one machine can each have their
own: they number their workers alike, and in a pool that they share one would stop the other's.
"""

from __future__ import annotations

import signal
import sys
import threading

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, kill_process_gracefully
from apache_beam.utils import thread_pool_executor


def main(address: str) -> None:
    """Serves until it is told to stop (SIGTERM, Ctrl-C); then stops its workers."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)
    server = grpc.server(thread_pool_executor.shared_unbounded_instance())
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(address)
    server.start()
    stop.wait()
    server.stop(0)
    for worker in pool._worker_processes.values():
        kill_process_gracefully(worker)


if __name__ == "__main__":
    main(sys.argv[1])
