"""The files that start runs on many GPUs: what accelerate makes of them, and Slurm's script."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LAUNCH = Path(__file__).resolve().parents[1] / "training" / "launch"
pytestmark = pytest.mark.skipif(not LAUNCH.exists(), reason="reads the checkout")


def launched(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What accelerate would start, with the environment that its processes would see."""
    launch: Any = pytest.importorskip("accelerate.commands.launch")
    utils: Any = pytest.importorskip("accelerate.utils.launch")
    line = [
        "--config_file",
        str(LAUNCH / name),
        "--num_processes",
        "4",
        "train_agent",
        "--env",
        "X",
    ]
    args, defaults, _ = launch._validate_launch_command(
        launch.launch_command_parser().parse_args(line)
    )
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, env = utils.prepare_deepspeed_cmd_env(args)
    else:
        env = utils.prepare_multi_gpu_env(args)
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    return args


def test_ddp_is_one_whole_model_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    args = launched("ddp.yaml", monkeypatch)
    assert args.multi_gpu and not args.use_fsdp and not args.use_deepspeed
    assert args.num_processes == 4 and os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_fsdp2_shards_the_layers_and_saves_whole_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    args = launched("fsdp2.yaml", monkeypatch)
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import StateDictType

    plugin = FullyShardedDataParallelPlugin()
    assert args.use_fsdp and plugin.fsdp_version == 2 and plugin.reshard_after_forward
    assert plugin.state_dict_type is StateDictType.FULL_STATE_DICT
    assert plugin.auto_wrap_policy is not None


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_gets_its_stage(stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deepspeed")
    args = launched(f"zero{stage}.yaml", monkeypatch)
    from accelerate.utils import DeepSpeedPlugin

    settings = DeepSpeedPlugin().deepspeed_config["zero_optimization"]
    assert args.use_deepspeed and settings["stage"] == stage
    assert settings["offload_optimizer"]["device"] == "none"


# --- Slurm --------------------------------------------------------------------------------------

# Stands for a server until it is stopped: what serve_model is, without a model.
SERVE = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if os.environ.get("BROKEN"): sys.exit(1)
class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(os.environ["OPENAI_API_KEY"].encode())
    def log_message(self, *args): pass
with open(f"started-{flags['--port']}", "w") as note: json.dump(flags, note)
HTTPServer((flags["--host"], int(flags["--port"])), Healthy).serve_forever()
"""
# Stands for accelerate: asks every server that the command names, and notes the command.
ACCELERATE = """
import json, os, sys, urllib.request
words = sys.argv[1:]
urls = words[words.index("--server-url") + 1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
keys = [opener.open(url + "/health").read().decode() for url in urls]
assert keys == [os.environ["OPENAI_API_KEY"]] * len(urls), keys
with open("learned", "w") as note: json.dump(words, note)
sys.exit(int(os.environ.get("ENDS", "0")))
"""
# Slurm itself: nodes that are all this machine, and steps that run here.
SLURM = {
    "scontrol": '#!/bin/bash\n[[ "$1 $2" == "show hostnames" ]] && printf "%s\\n" ${3//,/ }\n',
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
}


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on two nodes of two GPUs, whose commands are the ones above."""
    if not all(map(shutil.which, ("bash", "curl"))):
        pytest.skip("needs bash and curl")
    bin = tmp_path / "bin"
    bin.mkdir()
    python = f"#!{sys.executable}\n"
    commands = {"serve_model": python + SERVE, "accelerate": python + ACCELERATE, **SLURM}
    commands["train_agent"] = "#!/bin/bash\n"
    for name, text in commands.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "127.0.0.1,127.0.0.2", "PORT": "18700"}
    path = os.pathsep.join([str(bin), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, **job, "SLURM_GPUS_ON_NODE": "2", "PATH": path}


def batch(job: dict[str, str], cwd: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    line = ["bash", str(LAUNCH / "cluster.slurm"), *flags]
    return subprocess.run(line, env=job, cwd=cwd, capture_output=True, text=True, timeout=60)


FLAGS = ("--env", "Arithmetic-v0", "--model", "m", "--lora.rank=16")


def test_slurm_starts_servers_on_the_other_nodes_and_learns_on_the_first(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    done = batch(cluster, tmp_path, *FLAGS)
    assert done.returncode == 0, done.stderr
    for port in ("18700", "18701"):
        flags = json.loads((tmp_path / f"started-{port}").read_text())
        assert (flags["--model"], flags["--max-lora-rank"], flags["--max-loras"]) == (
            "m",
            "16",
            "3",
        )
    words = json.loads((tmp_path / "learned").read_text())
    assert words[words.index("--num_processes") + 1] == "2"
    assert Path(words[words.index("--config_file") + 1]).samefile(LAUNCH / "ddp.yaml")
    urls = words[words.index("--server-url") + 1 :]
    assert urls == ["http://127.0.0.2:18700", "http://127.0.0.2:18701"]
    given = words.index("--env")
    assert words[given : given + len(FLAGS)] == list(FLAGS) and "--resume" not in words
    with pytest.raises(OSError):  # the servers end with the job
        port_is_open("127.0.0.2", 18700)


def port_is_open(host: str, port: int) -> None:
    import socket

    socket.create_connection((host, port), timeout=1).close()


@pytest.mark.slow
def test_slurm_s_job_ends_as_the_learner_does_and_resumes_when_started_again(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    assert batch({**cluster, "ENDS": "130"}, tmp_path, *FLAGS).returncode == 130
    again = {**cluster, "SLURM_RESTART_COUNT": "1"}
    assert batch(again, tmp_path, *FLAGS).returncode == 0
    assert "--resume" not in json.loads((tmp_path / "learned").read_text()), "nothing to resume yet"
    (tmp_path / "runs-7" / "run").mkdir(parents=True)
    (tmp_path / "runs-7" / "run" / "config.yaml").touch()
    assert batch(again, tmp_path, *FLAGS).returncode == 0
    words = json.loads((tmp_path / "learned").read_text())
    assert words[words.index("--resume") + 1] == "--policy"


@pytest.mark.parametrize(
    ("change", "flags", "told"),
    [
        ({}, ("--env", "Arithmetic-v0"), "say which model the servers serve: --model"),
        ({"SLURM_JOB_NODELIST": "127.0.0.1"}, FLAGS, "at least two nodes"),
        ({"BROKEN": "1"}, FLAGS, "no server is left; see server-7-"),
    ],
)
def test_slurm_s_script_says_what_is_wrong(
    change: dict[str, str],
    flags: tuple[str, ...],
    told: str,
    cluster: dict[str, str],
    tmp_path: Path,
) -> None:
    done = batch({**cluster, **change}, tmp_path, *flags)
    assert done.returncode == 2 and told in done.stderr
    assert not (tmp_path / "learned").exists()


def test_slurm_s_script_is_clean_to_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck") or pytest.skip("shellcheck is not installed")
    subprocess.run([shellcheck, str(LAUNCH / "cluster.slurm")], check=True)


# --- Ray ----------------------------------------------------------------------------------------


def test_ray_s_launch_refuses_before_it_starts_anything() -> None:
    from taskgym.training.errors import ConfigError
    from taskgym.training.launch.ray_cluster import RayConfig, launch

    with pytest.raises(ConfigError, match="say which model the servers serve: --model"):
        launch(RayConfig(), ["--env", "Arithmetic-v0"])
    with pytest.raises(ConfigError, match="are said here: they are the servers started"):
        launch(RayConfig(), ["--env", "Arithmetic-v0", "--model", "m", "--policy", "vllm"])
