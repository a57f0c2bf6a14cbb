"""One thing of the machine, the run folder or the network broken at a time."""

import errno
import fcntl
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from open_rs import models
from open_rs.lock import lock_folder
from open_rs.plan.doctor import machine, network


def test_more_threads_than_cores(bench):
    bench.settings["threads"] = 4096
    bench.sees("cpu.threads", "warn", "4096 threads (threads)", "set threads = ")
    assert torch.get_num_threads() <= machine.usable_cores()


def test_a_container_with_fewer_cores_than_the_machine(bench, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("100000 100000\n")  # 1 core
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    bench.settings["threads"] = 2
    bench.sees("cpu.threads", "warn", "2 threads (threads) on 1 cores", "set threads = 1")


def test_no_vector_instructions(bench, monkeypatch):
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    bench.sees("cpu.instructions", "warn", "no AVX2")


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine with an NVIDIA driver."""
    (tmp_path / "nvidia").touch()
    monkeypatch.setattr(machine, "NVIDIA", tmp_path / "nvidia")


def test_torch_for_cpus_beside_a_gpu(bench, driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    bench.sees("device.build", "warn", "built for CPUs")


def test_gpus_hidden_by_a_variable(bench, driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    bench.sees("device.hidden", "warn", "CUDA_VISIBLE_DEVICES hides every GPU")


def test_a_driver_that_is_too_old(bench, driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench.sees("device.driver", "warn", "can use no GPU here", "update the driver")


def test_a_device_that_is_not_there(bench):
    bench.set("model", device="cuda:63")
    bench.sees("device.usable", "fail", "model.device = 'cuda:63'")


def test_bfloat16_on_a_processor_without_it(bench, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text("flags : fpu sse2 avx2\n")
    monkeypatch.setattr(models, "CPUINFO", tmp_path / "cpuinfo")
    bench.set("model", dtype="bfloat16", device="cpu")
    bench.sees("device.bfloat16", "warn", "no bfloat16 of its own", 'model.dtype = "float32"')


def test_a_model_that_memory_does_not_hold(bench, tmp_path, monkeypatch):
    for name, text in (("memory.max", "1000000"), ("memory.current", "0"), ("memory.stat", "")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    bench.sees("device.memory", "fail", "0.00 GiB are free", "[model.lora]")


def test_a_run_folder_below_a_file(bench, tmp_path):
    (tmp_path / "file").touch()
    bench.run = tmp_path / "file" / "run"
    bench.sees("run.writable", "fail", "cannot be written (Not a directory)")


def test_a_file_system_without_locks(bench, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    bench.sees("run.locks", "warn", "has no locks")


def test_another_writer(bench):
    with lock_folder(bench.run):
        bench.sees("run.free", "fail", "writes there")
    assert bench.findings()["run.free"].status == "ok"


def test_a_run_of_another_recipe(bench):
    bench.run.mkdir()
    (bench.run / "recipe.json").write_text('{"seed": 7}')
    (bench.run / "metrics.jsonl").write_text("{}\n")
    bench.sees("run.recipe", "fail", "already holds a run of another recipe")


def test_a_disk_that_cannot_hold_the_checkpoints(bench):
    bench.set("train", num_steps=400_000, save_every=2)
    bench.sees("disk.space", "fail", "200000 checkpoints take")


def test_a_port_that_is_taken(bench, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        bench.sees("run.ports", "fail", "the port cannot be taken", "another port")


def test_a_port_that_is_none(bench, monkeypatch):
    monkeypatch.setenv("VLLM_PORT", "http")
    bench.sees("run.ports", "fail", "VLLM_PORT is 'http'")


def test_a_tracker_that_is_not_installed(bench, monkeypatch):
    monkeypatch.setattr(network, "TRACKER_PACKAGES", {"wandb": "no-such-package"})
    bench.set("train", trackers=["wandb"])
    bench.sees("run.trackers", "fail", "pip install no-such-package")


def test_a_cap_in_dollars_without_a_price(bench):
    bench.set("budget", usd=1.0)
    bench.set("model", device="cpu")
    bench.sees("budget.price", "fail", "no price is known", "budget.usd_per_hour")


def test_a_data_set_that_nothing_can_fetch(bench):
    bench.set("data", train={"hub": "nobody/nothing"})
    bench.sees("hub.data", "fail", "not in the cache: nobody/nothing", "HF_HUB_OFFLINE")


def test_a_data_set_that_will_be_fetched(bench, monkeypatch):
    from open_rs.plan.doctor import hub

    monkeypatch.setattr(hub, "is_offline", lambda: False)
    bench.set("data", train={"hub": "nobody/nothing"})
    bench.sees("hub.data", "warn", "they will be fetched")


@contextmanager
def endpoint(bench, status=200, models=("some/model",), host="127.0.0.1"):
    """A server that lists models, and the recipe that asks it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps({"data": [{"id": one} for one in models]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Quiet."""

    server = ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://{host}:{server.server_address[1]}/v1"
    bench.set("rollout", engine={"type": "openai", "base_url": url, "model": "some/model"})
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()


def test_a_healthy_endpoint(bench):
    with endpoint(bench):
        found = bench.findings()
    assert [one for one in found.values() if one.status in ("warn", "fail")] == []
    assert found["endpoint.model"].status == "ok"


def test_no_client_for_endpoints(bench, monkeypatch):
    monkeypatch.setattr(network, "package_version", lambda name: None)
    with endpoint(bench):
        bench.sees("endpoint.package", "fail", 'pip install "open-rs[openai]"')


def test_no_key_for_a_server_elsewhere(bench):
    with endpoint(bench, host="127.0.0.2"):
        bench.sees("endpoint.keys", "fail", "OPENAI_API_KEY is not set")


def test_a_proxy_in_the_way(bench, monkeypatch):
    with endpoint(bench) as url:
        monkeypatch.setenv("http_proxy", url)  # answers for any address, as a proxy does
        bench.sees("endpoint.proxy", "warn", "go to the proxy of http_proxy", "no_proxy=127.0.0.1")


def test_a_server_that_is_not_there(bench):
    with endpoint(bench):
        pass
    bench.sees("endpoint.answers", "fail", "does not answer", "start the server")


def test_a_server_in_trouble(bench):
    with endpoint(bench, status=503):
        bench.sees("endpoint.answers", "warn", "answers 503")


def test_a_key_that_is_refused(bench):
    with endpoint(bench, status=401):
        bench.sees("endpoint.key_taken", "fail", "answers 401: the key in OPENAI_API_KEY")


def test_a_server_of_another_model(bench):
    with endpoint(bench, models=("other/one",)):
        bench.sees("endpoint.model", "fail", "serves other/one, not some/model")
