"""The program's short commands, as a supervisor runs them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gatekeeper.golem.runtime import main
from tests.authority import Authority
from tests.daemon import ROOT, free_port
from tests.golem.conftest import ACME
from tests.golem.standin import StandIn
from tests.golem.supervisor import environment, run_program


def define(directory: Path, **changes: object) -> None:
    (directory / "services" / "acme.json").write_text(json.dumps(ACME | changes))


@pytest.fixture
def nowhere() -> str:
    """A URL where no management API is."""
    return f"http://127.0.0.1:{free_port()}"


class TestOfferTemplate:
    def test_it_is_printed(self, workdir: Path) -> None:
        define(workdir, offerProperties={"Max_Size": 5, "names": {"ä": None}})
        done = run_program("acme", "offer-template", directory=workdir)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {
            "properties": {
                "golem.runtime.http-auth.max-size": 5,
                "golem.runtime.http-auth.names": '{"ä":null}',
                "golem.runtime.http-auth.https": False,
            },
            "constraints": "",
        }

    def test_a_supervisor_may_say_more(self, workdir: Path) -> None:
        options = ("--workdir", workdir / "w")
        done = run_program(*options, "acme", "offer-template", "--", "x", directory=workdir)
        assert done.returncode == 0

    def test_yaml(self, workdir: Path) -> None:
        (workdir / "services" / "other.yaml").write_text(
            "name: other\nbindHttp: 127.0.0.1:80\nfrom: /\nto: http://127.0.0.1:1\n"
            "offerProperties: {a: 1}\n"
        )
        done = run_program("other", "offer-template", directory=workdir)
        assert '"golem.runtime.http-auth.a": 1' in done.stdout

    def test_what_it_loads(self, workdir: Path) -> None:
        """It must answer at once: what takes long to import is not needed for it."""
        program = (
            "import sys\n"
            "from gatekeeper.golem.runtime import main\n"
            "assert main(['acme', 'offer-template']) == 0\n"
            "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=workdir,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        heavy = {
            *("twisted", "zope", "pydantic", "click", "google", "yaml", "http", "asyncio"),
            *("subprocess", "threading", "cryptography", "argon2", "dataclasses", "tomllib"),
        }
        loaded = set(done.stderr.split())
        assert "gatekeeper" in loaded
        if "coverage" not in loaded:
            assert loaded & heavy == set()
        else:
            assert loaded & {"twisted", "pydantic", "click", "google", "yaml"} == set()


def test_what_is_missing_is_told(workdir: Path) -> None:
    done = run_program("acme", directory=workdir)
    assert done.returncode == 2
    assert done.stderr.endswith("error: the following arguments are required: COMMAND\n")


class TestLookup:
    def test_configured_directories_come_first(self, workdir: Path, tmp_path: Path) -> None:
        places = []
        for threads in (1, 2):
            place = tmp_path / str(threads)
            place.mkdir()
            (place / "acme.json").write_text(json.dumps(ACME | {"cpuThreads": threads}))
            places.append(str(place))
        variable = {"GATEKEEPER_GOLEM_SERVICES": ":".join(["", *places])}
        done = run_program("acme", "offer-template", directory=workdir, **variable)
        assert '"golem.runtime.http-auth.cpu-threads": 1' in done.stdout
        option = ("--services-dir", places[1])
        done = run_program(*option, "acme", "offer-template", directory=workdir, **variable)
        assert '"golem.runtime.http-auth.cpu-threads": 2' in done.stdout

    def test_the_user_s_directories(self, workdir: Path, tmp_path: Path) -> None:
        for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            home = tmp_path / variable
            (home / "ya-runtime-http-auth").mkdir(parents=True)
            (home / "ya-runtime-http-auth" / "services").symlink_to(workdir / "services")
            done = run_program("acme", "deploy", directory=home, **{variable: str(home)})
            assert done.returncode == 0, done.stderr

    def test_nothing_is_found(self, workdir: Path) -> None:
        (workdir / "services" / "b.json").write_text("{")
        done = run_program("other", "offer-template", directory=workdir)
        assert (done.returncode, done.stdout) == (1, "")
        first, second = done.stderr.splitlines()
        assert first.startswith(
            "gatekeeper-golem-runtime: no definition has the name `other`; looked into "
        )
        assert f"{workdir}/services" in first
        assert second.startswith(f"gatekeeper-golem-runtime: {workdir}/services/b.json: ")

    def test_all_problems_are_told(self, workdir: Path) -> None:
        define(workdir, to="x", cert={"path": 1})
        done = run_program("acme", "deploy", directory=workdir)
        assert (done.returncode, done.stdout) == (1, "")
        file = f"gatekeeper-golem-runtime: {workdir}/services/acme.json"
        assert [line.split(": ")[2] for line in done.stderr.splitlines()] == [
            "cert.keyPath",
            "cert.path",
            "to",
        ]
        assert all(line.startswith(file) for line in done.stderr.splitlines())


def test_deploy(workdir: Path) -> None:
    new = workdir / "a" / "b"
    done = run_program("--workdir", new, "acme", "deploy", directory=workdir)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == '{"startMode": "blocking", "valid": {"Ok": ""}, "vols": []}\n'
    assert new.is_dir()


def test_a_working_directory_that_cannot_be_made(workdir: Path) -> None:
    done = run_program("--workdir", "/proc/x", "acme", "deploy", directory=workdir)
    assert (done.returncode, done.stdout) == (1, "")
    assert "/proc/x" in done.stderr
    assert "Traceback" not in done.stderr


class TestTest:
    def test_a_gatekeeper_runs(self, workdir: Path, standin: StandIn) -> None:
        done = run_program("--management-url", standin.url, "acme", "test", directory=workdir)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert standin.log == ["GET /services"]

    def test_one_that_will_not_have_us(self, workdir: Path, standin: StandIn) -> None:
        standin.token = "s3cret"
        done = run_program("acme", "test", directory=workdir, MANAGEMENT_API_URL=standin.url)
        assert done.returncode == 1
        assert "a token is needed (--token-file)" in done.stderr

    def test_one_can_be_started(self, workdir: Path, nowhere: str) -> None:
        define(workdir, bindHttp=f"127.0.0.1:{free_port()}")
        done = run_program("acme", "test", directory=workdir, MANAGEMENT_API_URL=nowhere)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert list(workdir.iterdir()) == [workdir / "services"]

    def test_a_port_that_is_taken(self, workdir: Path, nowhere: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            define(workdir, bindHttp=address)
            done = run_program("acme", "test", directory=workdir, MANAGEMENT_API_URL=nowhere)
        assert done.returncode == 1
        assert f"cannot listen on {address}: Address already in use" in done.stderr

    def test_a_certificate_that_is_missing(self, workdir: Path, nowhere: str) -> None:
        cert = {"path": "missing.pem", "keyPath": "k.pem"}
        define(workdir, bindHttp=None, bindHttps=f"127.0.0.1:{free_port()}", cert=cert)
        done = run_program("acme", "test", directory=workdir, MANAGEMENT_API_URL=nowhere)
        assert done.returncode == 1
        assert f"No such file or directory: '{workdir}/services/missing.pem'" in done.stderr

    def test_a_key_that_is_missing(self, workdir: Path, nowhere: str, tmp_path: Path) -> None:
        issued = Authority(tmp_path).issue("acme.com")
        cert = {"path": str(issued.certificate), "keyPath": "k.pem"}
        define(workdir, bindHttp=None, bindHttps=f"127.0.0.1:{free_port()}", cert=cert)
        done = run_program("acme", "test", directory=workdir, MANAGEMENT_API_URL=nowhere)
        assert done.returncode == 1
        assert "cert.keyPath" in done.stderr

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("https://127.0.0.1:1", "none can be started there from here"),
            ("unix:/nowhere.sock", "none can be started there from here"),
            ("127.0.0.1:6668", "--management-url: must be http://HOST:PORT"),
            ("http://127.0.0.1:99999", "--management-url: "),
            ("http://192.0.2.1.invalid:6668", "none can be started there from here"),
        ],
    )
    def test_urls_that_lead_nowhere(self, workdir: Path, url: str, complaint: str) -> None:
        done = run_program("--management-url", url, "acme", "test", directory=workdir)
        assert done.returncode == 1
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["acme"], ["acme", "fly"], ["--work", ".", "acme", "test"]])
def test_misuse(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: gatekeeper-golem-runtime" in err


def test_the_program_is_installed_under_its_name() -> None:
    assert (
        "gatekeeper-golem-runtime = gatekeeper.golem.runtime:main"
        in (ROOT / "setup.cfg").read_text()
    )
