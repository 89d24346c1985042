"""A site is replaced whole or stays, and each mistake is answered in one message."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from ssconv_lib.__main__ import main
from ssconv_lib.paths import ROOT
from ssconv_lib.site import build, command

PAGE = "<!doctype html><link rel=icon href='data:,'><h1>{}</h1>"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def site(tmp_path):
    """A site that was built before."""
    folder = tmp_path / "a place" / "pages"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(PAGE.format("Old"))
    (folder / build.MARK).write_text("")
    return folder


@pytest.fixture
def built(monkeypatch):
    """What Sphinx would have built, {name: text}, without Sphinx."""
    pages = {"index.html": PAGE.format("New") + "<a href=two.html>two</a>", "two.html": "<a href=index.html>one</a>"}

    def sphinx(source, work):
        out = work / "html"
        out.mkdir()
        for name, text in pages.items():
            (out / name).write_text(text)
        return out

    monkeypatch.setattr(build, "stage", lambda chapters, folder, repository: folder.mkdir(parents=True))
    monkeypatch.setattr(build, "_sphinx", sphinx)
    return pages


def test_a_new_site_takes_the_place_of_the_old_one_and_nothing_else_is_left(site, built):
    (site / "gone.html").write_text("x")
    assert build.build([], site) == 2
    assert names(site) == [build.MARK, "index.html", "two.html"]
    assert build.build([], site) == 2, "and may be replaced again"
    assert "New" in (site / "index.html").read_text()
    assert names(site.parent) == [site.name]


def test_pages_with_a_dead_link_are_told_and_the_old_site_stays(site, built):
    built["two.html"] += "<a href=three.html>three</a>"
    with pytest.raises(RuntimeError, match=r"two\.html: three\.html leads nowhere"):
        build.build([], site)
    assert "Old" in (site / "index.html").read_text()
    assert names(site.parent) == [site.name]


@pytest.mark.parametrize("trouble", [OSError, KeyboardInterrupt])
def test_the_old_site_comes_back_when_the_new_one_cannot_take_its_place(site, built, monkeypatch, trouble):
    rename = Path.rename

    def fail(path, target):
        if path.name == "html":
            raise trouble
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(trouble):
        build.build([], site)
    assert "Old" in (site / "index.html").read_text()
    assert names(site.parent) == [site.name]


@pytest.mark.parametrize("name", ["mine.txt", "index.html", ".git"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, built, name):
    (tmp_path / name).write_text("mine")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match="holds something other than a site"):
            build.build([], place)
    assert names(tmp_path) == [name]


def test_what_a_killed_build_left_is_swept_and_a_living_one_is_not(site, built):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = (build.temporary_name(site) for _ in range(2))
    dead = dead.with_name(dead.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    for folder in (dead, alive):
        (folder / "source").mkdir(parents=True)
    build.build([], site)
    assert names(site.parent) == sorted([site.name, alive.name])


def test_a_warning_of_sphinx_ends_the_build_and_names_the_page(tmp_path):
    source = tmp_path / "ä b" / "source"
    source.mkdir(parents=True)
    (source / "_config.yml").write_text("title: T\nonly_build_toc_files: true\n")
    (source / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (source / "index.md").write_text("# T\n\n[x](gone.md)\n")
    with pytest.raises(RuntimeError, match=r"(?s)Jupyter Book ended with a fault.*index\.md.*gone\.md"):
        build._sphinx(source, tmp_path / "ä b")


ADDRESSES = {
    "https://github.com/a/b": "https://github.com/a/b",
    "https://github.com/a/b.git": "https://github.com/a/b",
    "https://github.com/a/b.c/": "https://github.com/a/b.c",
    "git@github.com:a/b.git": "https://github.com/a/b",
    "http://github.com/a/b": "",
    "https://github.com/a": "",
    "https://github.com/../..": "",
    "https://example.org/a/b.git": "",
    "../b": "",
}


@pytest.mark.parametrize(("told", "expected"), ADDRESSES.items())
def test_an_address_is_as_browsers_take_it_or_none(told, expected):
    assert command._address(told) == expected


def test_the_repository_is_that_of_this_checkouts_own_origin(monkeypatch, tmp_path):
    for root, expected in ((ROOT, "https://github.com/a/b"), (tmp_path, "")):
        said = {"rev-parse": f"{root}\n", "remote": "git@github.com:a/b.git\n"}
        monkeypatch.setattr(
            command.subprocess, "run", lambda ask, said=said, **_: subprocess.CompletedProcess(ask, 0, said[ask[3]])
        )
        assert command._origin() == expected
    monkeypatch.setattr(command.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("git")))
    assert command._origin() == ""


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_what_is_no_port_is_refused(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["site", "--serve", "--port", port])
    assert ended.value.code == 2
    assert "0 to 65535" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_with_the_remedy(site, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["site", "--serve", "--output", str(site), "--port", str(port)]) == 2
    assert f"make serve PORT={port + 1}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--serve", "--output", "nowhere"], "make book builds it"),
        (["--profile", "no-such"], "no-such"),
        (["--repository", "github.com/a/b"], "expected https://github.com/OWNER/NAME"),
        (["--output", "."], "holds something other than a site"),
    ],
)
def test_a_wrong_call_is_answered_before_anything_runs(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.setattr(command.reproduce, "reproduce", lambda *_, **__: pytest.fail("ran"))
    assert main(["site", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_serve_shows_the_site_to_this_machine(site):
    call = [sys.executable, "-u", "-m", "ssconv_lib", "site", "--serve", "--output", str(site), "--port", "0"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        try:
            address = running.stdout.readline().split()[4].rstrip(",")
            with urllib.request.urlopen(address, timeout=30) as page:
                assert b"Old" in page.read()
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0, "the way to end it is no fault"
        finally:
            running.kill()


def test_the_contents_name_pages_that_there_are():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    made = {"status"}
    assert {name for name in listed if not list((ROOT / "book").glob(f"{name}.*"))} == made
