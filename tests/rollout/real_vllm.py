"""A server of the vLLM that is installed, with the tiny model, on the loopback."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loopback import wait_until_healthy

from open_rs.models import model_path
from open_rs.rollout.vllm_worker import WORKER

START_S = 300
WORDS = (
    "--dtype float32 --enforce-eager --max-model-len 256 --max-num-seqs 8 --enable-scale-out "
    f"--logprobs-mode processed_logprobs --worker-extension-cls {WORKER} --host 127.0.0.1"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(process: "subprocess.Popen[bytes]") -> None:
    """At once, with the workers that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def serve_vllm(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """What `vllm serve` runs: that command needs the metadata of a package named vllm, which the
    one for CPUs lacks.
    """
    entry = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--port", str(port)]
    words = [*entry, "--model", model_path("tiny"), *WORDS.split()]
    settings = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    log = folder / "vllm.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            words,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment | settings,
            start_new_session=True,
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log, START_S)
            yield process
        finally:
            kill(process)
