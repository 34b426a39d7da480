"""Runs all checks, each in its own environment: `nox`, or one of them: `nox -s lint`."""

import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
group = partial(nox.project.dependency_groups, PROJECT)


def runs(version: str) -> bool:
    """Whether this machine can run that Python; a shim of a version manager may not start."""
    path = shutil.which(f"python{version}")
    return path is not None and subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL) == 0


PYTHONS = [version for version in nox.project.python_versions(PROJECT) if runs(version)]
nox.options.sessions = ["lint", "types", "tests", "peers", "browser", "docs", "build"]
nox.options.reuse_venv = "yes"


@nox.session(python=sorted({"{}.{}".format(*sys.version_info), *PYTHONS}))
def tests(session: nox.Session) -> None:
    """Run pytest on every supported Python that this machine has."""
    session.install("-e", ".[all]", *group("tests"))
    # In two processes, each with whole files: the blocks of a page of the docs need their order. A
    # test that hangs ends its process; with a new one in its place, pytest-xdist never ends.
    options = ["-n", "2", "--dist", "loadfile", "--max-worker-restart", "0"]
    session.run("pytest", *(session.posargs or options))


@nox.session
def browser(session: nox.Session) -> None:
    """Test the example apps in a real browser, if there is one."""
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        session.skip("Chromium is missing: apt-get install chromium")
    session.install("-e", ".[local,speech]", *group("browser"))
    session.run("pytest", "tests/browser", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Compare the official packages with cfai, against our servers."""
    session.install("-e", ".[local]", "cloudflare", "cohere", "openai", *group("tests"))
    names = ("cloudflare", "cohere", "openai")
    session.run("pytest", *(f"tests/bench/test_{name}.py" for name in names))


@nox.session(default=False)
def clients(session: nox.Session) -> None:
    """Run clients of other makers against the local server; those in JavaScript if there is npm."""
    session.install("-e", ".[local]", "-r", "tests/local/clients/python.txt", *group("tests"))
    if shutil.which("npm"):
        project = session.create_tmp()
        packages = Path("tests/local/clients/node.txt").read_text().split()
        session.run("npm", "install", "--silent", "--prefix", project, *packages, external=True)
        session.env["CFAI_NODE_PROJECT"] = project
    # Some leave connections open, and Node and its packages start slowly on a busy machine.
    options = ("-W", "default", "-o", "faulthandler_timeout=300")
    session.run("pytest", "tests/local/clients", *options, *session.posargs)


@nox.session(default=False)
def quality(session: nox.Session) -> None:
    """Measure how often the local models are right, and write the figures into the docs."""
    session.install("-e", ".[local]", *group("tests"))
    session.run("python", "-m", "tests.local.text_quality")


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style of the code."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, and that all public names have types."""
    session.install("-e", ".[all]", *group("tests", "browser", "types"))
    session.run("mypy")
    session.env["PYRIGHT_PYTHON_IGNORE_WARNINGS"] = "1"
    session.run("pyright", "--verifytypes", "cfai", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs; warnings are errors."""
    session.install("-e", ".[cli]", *group("docs"))
    session.run("sphinx-build", "-W", "-n", "--keep-going", "docs", "docs/_build/html")


@nox.session
def build(session: nox.Session) -> None:
    """Build the distributions, check their contents, and import the wheel."""
    dist = Path(session.create_tmp(), "dist")
    shutil.rmtree(dist, ignore_errors=True)
    session.install(*group("build"))
    session.run("python", "-m", "build", "--outdir", str(dist), ".")
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    (wheel,) = dist.glob("cfai_sdk-*.whl")
    source = {str(path) for path in Path("cfai").rglob("*.*") if path.suffix != ".pyc"}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if packed != source:
        session.error(f"the wheel and cfai/ differ: {sorted(packed ^ source)}")
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(str(wheel))
    session.run("python", "-I", "-W", "error", "-c", "from cfai import *; WorkersAI", silent=True)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Send random responses to every public call: `nox -s fuzz -- --seconds 600 --seed 7`."""
    session.install("-e", ".[all]", *group("tests"))
    session.run("python", "-W", "error", "-m", "tests.fuzz", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Change the code at random, and run the tests: `nox -s mutants -- --count 200 --seed 7`."""
    session.install("-e", ".[all]", "cosmic-ray>=8.7", *group("tests"))
    session.run("pytest", "tests/mutants")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session(default=False)
def stores(session: nox.Session) -> None:
    """Run the page about vector stores, whose libraries are large and installed only here."""
    libraries = ["duckdb", "lancedb", "qdrant-client", "chromadb", "psycopg[binary]", "pgvector"]
    session.install("-e", ".[arrow,local]", *libraries, *group("tests"))
    session.run("pytest", "tests/test_docs.py", "-k", "vector-stores", *session.posargs)


@nox.session(default=False)
def distributed(session: nox.Session) -> None:
    """Run the distributed embedder in Ray Data and Daft, which are installed only here."""
    session.install("-e", ".[arrow,local]", "ray[data]", "daft", *group("tests"))
    files = ("tests/distributed", "tests/test_docs.py")
    # Ray and Daft leave files and sockets open, and the actors of Ray take long to start.
    options = ("-k", "distributed", "-W", "default", "-o", "faulthandler_timeout=600")
    session.run("pytest", *files, *options, *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Compare the speed of cfai and other clients, which are installed only here."""
    session.install("-e", ".[arrow,local]", "-r", "tests/bench/peers.txt", *group("tests"))
    if not session.posargs:
        session.run("pytest", "tests/bench")
    modules = ["", ".crowd", ".relay", ".limit", ".stall", ".memory", ".growth"]
    for module in [""] if session.posargs else modules:
        session.run("python", "-m", f"tests.bench{module}", *session.posargs)
