"""`make check-fresh`: the README's first commands, and the steps of deploy/Dockerfile, each in a bare Debian made for it.

debootstrap makes the root. `readme`: an ordinary user with an empty home runs the README's lines as they stand there, with the packages
that its apt-get line names and no others. `image`: RUN, COPY and USER of the Dockerfile are carried out as written, then its user
translates.
What is tried is HEAD, not the working tree. Needs root, debootstrap and git, and nothing of this project.

How this machine reaches Debian and PyPI holds in the roots too: pip's settings, proxies, the folders and files that they name. Variables:
DEBIAN_MIRROR (debootstrap's default otherwise), TORCH_INDEX (the Dockerfile's build argument), TMPDIR (6 GB, default /var/tmp).
"""

import argparse
import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

PROJECT = Path(__file__).resolve().parents[1]
SUITE = "bookworm"  # Debian 12: its Python is 3.11
BASE_IMAGE = "python:3.11-slim"
PICTURE = "docs/images/mprage.png"
SETTING = re.compile(r"PIP_\w+|(https?|no|all|ftp)_proxy|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE", re.IGNORECASE)
APT_SETTING = re.compile(r"Acquire::(https?|Check-|Retries|Force)\S*")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What an image of Debian tells apt: ask nothing, keep no packages.
APT_CONF = 'APT::Get::Assume-Yes "true";\nDPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };\n'
Step = tuple[str, str]  # an instruction of a Dockerfile and the rest of its line


def fail(message: str, code: int = 2) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


# ---------------------------------------------------------------- what is read


def read_dockerfile(text: str) -> list[Step]:
    """The instructions in their order, lines that go on joined, comments left out; those that are not carried out here are refused."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    steps = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name not in ("FROM", "RUN", "COPY", "WORKDIR", "ARG", "ENV", "USER", "CMD") or rest.startswith("--"):
            fail(f"deploy/Dockerfile: {line!r} is not known here; teach it to deploy/check_fresh.py")
        if name in ("COPY", "WORKDIR", "ENV", "USER") and "$" in rest:
            fail(f"deploy/Dockerfile: {line!r}: variables are known here in RUN only")
        steps.append((name, rest.strip()))
    return steps


def read_readme(text: str) -> tuple[str, list[str]]:
    """The packages of the README's apt-get line, and the commands from there up to its first translation."""
    block = re.search(r"^    sudo apt-get install ([a-z0-9. +-]+?)(?:  +#.*)?\n((?:    .+\n)*?)    ctmr translate ", text, re.MULTILINE)
    if not block:
        fail("README.md: expected a block of commands from `sudo apt-get install …` to `ctmr translate …`")
    return block[1].strip(), [re.sub(r"\s+#.*", "", line).strip() for line in block[2].splitlines()]


def read_pip_settings() -> dict[str, dict[str, str]]:
    """pip's settings on this machine by section, those of variables left out (they are handed on as variables)."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    settings: dict[str, dict[str, str]] = {}
    for name, value in re.findall(r"^([^:=\s][^=\s]*)=(.+)$", listed.stdout, re.MULTILINE):
        section, _, key = name.partition(".")
        settings.setdefault(section, {})[key] = " ".join(ast.literal_eval(value).split())
    return settings


# ---------------------------------------------------------------- a root


class Root:
    """A bare Debian in `folder`. Each command has its own mounts and processes, which end with it: nothing is to be unmounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if SETTING.fullmatch(name)}
        self.pip = read_pip_settings()
        values = [*self.env.values(), *(value for section in self.pip.values() for value in section.values())]
        paths = {path for word in " ".join([*values, os.environ.get("TORCH_INDEX", "")]).split() if (path := _local(word))}
        self.folders = sorted(path for path in paths if path.is_dir())
        self.files = sorted(path for path in paths if path.is_file())

    def make(self) -> None:
        """Debian's smallest system, and this machine's ways to packages."""
        mirror = os.environ.get("DEBIAN_MIRROR")
        command = ["debootstrap", "--variant=minbase", SUITE, str(self.folder), *([mirror] if mirror else [])]
        _run(_own_namespace(command), "debootstrap", quiet=True)
        asked = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout.splitlines()
        lines = [line for line in asked if APT_SETTING.match(line)]
        (self.folder / "etc/apt/apt.conf.d/90check-fresh").write_text(APT_CONF + "\n".join(lines) + "\n", encoding="utf-8")
        text = "".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) for section, keys in self.pip.items()
        )
        (self.folder / "etc/pip.conf").write_text(text, encoding="utf-8")
        shutil.copy("/etc/hosts", self.folder / "etc/hosts")

    def copy(self, folder: Path) -> "Root":
        subprocess.run(["cp", "-a", str(self.folder), str(folder)], check=True)
        return Root(folder)

    def run(
        self, command: list[str], *, label: str = "", user: str = "root", home: str = "/root", cwd: str = "/", env: Mapping[str, str] = {}
    ) -> None:
        for path in self.files:  # again before each command: installing ca-certificates replaces them
            self.place(path, str(path))
        mounts = [f"mount -t proc proc {self._at('/proc')}", f"mount -t tmpfs -o mode=1777 shm {self._at('/dev/shm')}"]
        for path in self.folders:
            self.inside(str(path)).mkdir(parents=True, exist_ok=True)
            mounts.append(f"mount --bind -o ro {shlex.quote(str(path))} {self._at(str(path))}")
        variables = {"PATH": PATH, "HOME": home, **self.env, **env}
        enter = ["chroot", f"--userspec={user}", str(self.folder), "/usr/bin/env", "-i", "-C", cwd]
        enter += [f"{key}={value}" for key, value in variables.items()]
        script = " && ".join([*mounts, "exec " + shlex.join([*enter, *command])])
        _run(_own_namespace(["sh", "-c", script]), label or shlex.join(command).removeprefix("sh -c "))

    def install(self, packages: str) -> None:
        self.run(["sh", "-c", f"apt-get update -q && apt-get install {packages}"], env={"DEBIAN_FRONTEND": "noninteractive"})

    def place(self, source: Path, target: str) -> None:
        self.inside(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, self.inside(target))

    def size(self) -> float:
        """GB on the disk."""
        blocks = subprocess.run(["du", "-sk", str(self.folder)], capture_output=True, text=True, check=True).stdout.split()[0]
        return int(blocks) * 1024 / 1e9

    def inside(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def _at(self, path: str) -> str:
        return shlex.quote(str(self.inside(path)))


def _local(word: str) -> Path | None:
    """The folder or file of this machine that a setting names; of an index the folder above, as its packages often lie beside it."""
    path = Path(word.removeprefix("file://"))
    if not path.is_absolute() or not path.exists() or path == Path("/"):
        return None
    return path.parent if word.startswith("file://") and path.parent != Path("/") else path


def _own_namespace(command: list[str]) -> list[str]:
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", *command]


def _run(command: list[str], what: str, *, quiet: bool = False) -> None:
    print(f"\n== {what}", flush=True)
    started = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=quiet, text=True, check=False)
    if done.returncode:
        print((done.stdout or "")[-2000:], (done.stderr or "")[-2000:], sep="", file=sys.stderr)
        fail(f"exit code {done.returncode}: {what}", 1)
    print(f"== took {time.monotonic() - started:.0f} s", flush=True)


# ---------------------------------------------------------------- the two checks


def check_readme(root: Root, commit: Path, demo: bool) -> None:
    """The README's block as an ordinary user; each line's seconds are printed."""
    packages, commands = read_readme((commit / "README.md").read_text(encoding="utf-8"))
    root.install(packages)
    root.run(["useradd", "--create-home", "--skel", "/var/empty", "--shell", "/bin/bash", "newcomer"])
    shutil.copytree(commit / ".git", root.inside("/srv/ctmr.git"))
    root.run(["chown", "-R", "newcomer:", "/srv/ctmr.git"])
    commands = [command.replace("ADDRESS", "/srv/ctmr.git") for command in commands]
    commands += [f"ctmr translate {PICTURE} ct.png --to ct", "test -s ct.png", *(["make demo"] if demo else [])]
    script = ["set -e", 'test -z "$(ls -A)"', 'test "$(id -u)" != 0']
    for command in commands:
        script += [f"printf '\\n== %s\\n' {shlex.quote(command)}", "SECONDS=0", command, 'echo "== took $SECONDS s"']
    root.run(["bash", "-c", "\n".join(script)], label="as an ordinary user", user="newcomer", home="/home/newcomer", cwd="/home/newcomer")
    print(f"\nREADME: as written, {root.size():.2f} GB with Debian", flush=True)


def check_image(root: Root, commit: Path) -> None:
    """The Dockerfile's steps. A virtual environment in /usr/local stands for the Python of its base image."""
    steps = read_dockerfile((commit / "deploy/Dockerfile").read_text(encoding="utf-8"))
    if steps[0] != ("FROM", BASE_IMAGE):
        fail(f"deploy/Dockerfile begins with {' '.join(steps[0])}; deploy/check_fresh.py stands in for {BASE_IMAGE} alone")
    root.install("--no-install-recommends ca-certificates netbase tzdata python3-venv")
    root.run(["sh", "-c", "python3 -m venv /usr/local && rm -rf /var/lib/apt/lists/*"])
    base = root.size()
    user, cwd = "root", "/"
    arguments: dict[str, str] = {}
    env = {"LANG": "C.UTF-8"}
    for name, rest in steps[1:]:
        home = "/root" if user == "root" else f"/home/{user}"
        if name == "RUN":
            root.run(["sh", "-c", rest], label=f"RUN {rest}", user=user, home=home, cwd=cwd, env={**arguments, **env})
        elif name == "COPY":
            _copy(commit, root, rest, cwd)
        elif name == "ARG":
            key, _, default = rest.partition("=")
            arguments[key] = os.environ.get(key, default)
        elif name == "ENV":
            env.update((key, value) for key, _, value in (word.partition("=") for word in shlex.split(rest)))
        elif name == "USER":
            user = rest
        elif name == "WORKDIR":
            cwd = rest
            root.inside(cwd).mkdir(parents=True, exist_ok=True)
        else:
            root.run(ast.literal_eval(rest), user=user, home=home, cwd=cwd, env=env)
    print(f"\nimage: {root.size():.2f} GB, of which its base {base:.2f}", flush=True)
    root.place(commit / PICTURE, "/srv/picture.png")
    command = 'test "$(id -u)" != 0 && ctmr translate /srv/picture.png ct.png --to ct && test -s ct.png'
    root.run(["sh", "-c", command], user=user, home=home, cwd=cwd, env=env)


def _copy(commit: Path, root: Root, rest: str, cwd: str) -> None:
    """As COPY does: files into a folder, of a folder its content; `commit` is the build's context."""
    *sources, target = rest.split()
    into = root.inside(str(Path(cwd) / target))
    for name in sources:
        if (commit / name).is_dir():
            shutil.copytree(commit / name, into, dirs_exist_ok=True)
        else:
            shutil.copy(commit / name, into)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("check", nargs="?", choices=["readme", "image", "all"], default="all")
    parser.add_argument("--demo", action="store_true", help="after the README's translation, make demo too")
    options = parser.parse_args()
    if os.geteuid():
        fail("a Debian root can be made by root alone: sudo make check-fresh")
    if missing := [name for name in ("debootstrap", "unshare", "git") if not shutil.which(name)]:
        fail(f"{', '.join(missing)} not found: apt-get install {' '.join(missing)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="ctmr-fresh-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        commit = Path(folder) / "commit"
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(PROJECT), str(commit)], check=True)
        bare = Root(Path(folder) / "bare")
        bare.make()
        if options.check != "image":
            root = bare.copy(Path(folder) / "readme")
            check_readme(root, commit, options.demo)
            shutil.rmtree(root.folder)
        if options.check != "readme":
            check_image(bare, commit)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
