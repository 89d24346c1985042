"""Faults at chosen moments: `python faults.py` does a piece of work in a forked process, with a fault at one event.

An event is what can be cut in two by a fault: a step of the optimizer, or an operation on files (open to write, fsync,
rename, link, unlink). A process that imports torch once and forks is much faster than one a moment.
"""

import contextlib
import ctypes
import errno
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HARMS = ("kill", "interrupt", "full")  # SIGKILL; Ctrl-C; a disk that is full, after half of a file is written


# ---- the pieces of work: what they need, what they do, what must have come of them


class Train:
    """One run, with a checkpoint after every step, its network kept."""

    def prepare(self, root):
        pass

    def act(self, root):
        import test_train

        from ssconv_lib import task

        run = test_train.RUN
        plan = task.Plan("tiny", root / "records", kept=frozenset({run.label}), checkpoint_every=0)
        assert task.train_here(run, plan)

    def made(self, root):
        import torch

        found = {}
        for path in _visible(root):
            if path.suffix == ".json":
                found[_below(root, path)] = _digest(json.dumps(measured(path)).encode())
            else:
                state = torch.load(path, weights_only=True)["model"]
                found[_below(root, path)] = _digest(b"".join(value.numpy().tobytes() for value in state.values()))
        return found


class Files:
    """Work whose files are the same bytes every time."""

    def made(self, root):
        return {_below(root, path): _digest(path.read_bytes()) for path in _visible(root)}


class Merge(Files):
    """Six records from elsewhere."""

    def prepare(self, root):
        (root / "elsewhere" / "laptop").mkdir(parents=True)
        for path in sorted((ROOT / "results" / "records" / "laptop").glob("long_range_cnn-*.json"))[:6]:
            shutil.copy(path, root / "elsewhere" / "laptop")

    def act(self, root):
        from ssconv_lib.__main__ import main

        if main(["merge", str(root / "elsewhere"), "--records", str(root / "records")]):
            raise OSError("merge said so")


class Cache(Files):
    """CIFAR-10, of 60 images, out of torchvision's archive and into the cache."""

    def __init__(self):
        import smallcifar
        from torchvision.datasets import CIFAR10

        from ssconv_lib import cifar10

        splits, cifar10.FACTS = smallcifar.arrays()
        self.archive, known = smallcifar.packed(splits)
        for name, value in known.items():
            setattr(CIFAR10, name, value)
        self.name = CIFAR10.filename

    def prepare(self, root):
        root.mkdir(parents=True)
        (root / self.name).write_bytes(self.archive)

    def act(self, root):
        from ssconv_lib.data import Cifar10, load

        assert len(load(Cifar10(), root).train) == 40

    def made(self, root):
        return {name: digest for name, digest in super().made(root).items() if name != self.name}


class Book(Files):
    """A chapter, through papermill: its table, its notebook, its stamp."""

    def prepare(self, root):
        import test_reproduce

        (root / "project" / "book").mkdir(parents=True)
        code = test_reproduce.HEAD + test_reproduce.WRITES.replace("print(profile, os.getcwd())", "print(profile)")
        (root / "project" / "book" / "01_toy.py").write_text(code)

    def act(self, root):
        from ssconv_lib import reproduce

        os.environ["SSCONV_RESULTS"] = str(root / "results")
        os.environ["JUPYTER_RUNTIME_DIR"] = str(root / "project" / "runtime")
        project = root / "project"
        chapters, profile = reproduce.plan("quick", book=project / "book", root=project)
        try:
            reproduce.reproduce(chapters, profile)
        except reproduce.ChapterError as error:
            raise OSError(str(error)) from error
        assert reproduce.reproduce(chapters, profile) == []

    def made(self, root):
        return {n: digest for n, digest in super().made(root).items() if "project" not in n and "stamp" not in n}


class Site(Files):
    """A site of two pages, in the place of an older one."""

    def prepare(self, root):
        from ssconv_lib.site import build

        (root / "site").mkdir(parents=True)
        (root / "site" / "index.html").write_text("old")
        (root / "site" / build.MARK).write_text("")

    def act(self, root):
        from ssconv_lib.site import build

        def sphinx(source, work):
            (work / "html").mkdir()
            for name, text in (("index", "<a href=two.html>two</a>"), ("two", "<a href=index.html>one</a>")):
                page = f"<!doctype html><link rel=icon href='data:,'>{text}"
                (work / "html" / f"{name}.html").write_text(page)
            return work / "html"

        build.stage, build._sphinx = lambda chapters, folder, repository: folder.mkdir(parents=True), sphinx
        assert build.build([], root / "site") == 2


WORK = {"train": Train, "merge": Merge, "cache": Cache, "book": Book, "site": Site}


def as_anybody():
    """Take from root, if that's who we are, the right to write where nobody may (CAP_DAC_OVERRIDE); before exec."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP


def measured(path):
    """What must be the same in a record that is made again."""
    from ssconv_lib.records import MEASURED, read_record

    record = read_record(path)
    return {part: record[part] for part in ("run", *MEASURED[record.get("kind", "training")])}


def _visible(root):
    paths = root.rglob("*")
    return sorted(p for p in paths if p.is_file() and not any(part[0] == "." for part in p.relative_to(root).parts))


def _below(root, path):
    return path.relative_to(root).as_posix()


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def hidden(root):
    """What lies about: files and folders that a person wouldn't see, but for the mark of a site and git's folder."""
    found = (path for path in root.rglob(".*") if path.name not in (".checkpoints", ".ssconv-site"))
    kept = [path for path in (root / "records" / ".checkpoints").rglob("*") if path.is_file()]
    return sorted(_below(root, path) for path in (*found, *kept))


# ---- the faults


class Events:
    """Counts events, and does harm at one."""

    def __init__(self):
        self.count, self.at, self.harm = 0, 0, "kill"

    def __call__(self, descriptor=None):
        self.count += 1
        if self.count != self.at:
            return
        if self.harm == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.harm == "interrupt":
            raise KeyboardInterrupt
        if descriptor is not None:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def watch(self):
        """Count from now on in this process."""
        import torch

        torch.optim.SGD.step = self._before(torch.optim.SGD.step, only_harm=("kill", "interrupt"))
        for name in ("replace", "rename", "unlink", "hardlink_to", "mkdir"):
            setattr(pathlib.Path, name, self._before(getattr(pathlib.Path, name), freeing=name == "unlink"))
        opened, synced = pathlib.Path.open, os.fsync

        def open_(path, mode="r", *arguments, **options):
            if set(mode) & set("wxa+"):
                self()
            return opened(path, mode, *arguments, **options)

        def fsync(descriptor):
            self(descriptor)
            return synced(descriptor)

        pathlib.Path.open, os.fsync = open_, fsync

    def _before(self, function, only_harm=HARMS, freeing=False):
        def wrapper(*arguments, **options):
            if self.harm in only_harm and not (freeing and self.harm == "full"):  # a full disk can forget
                self()
            return function(*arguments, **options)

        return wrapper


def serve():
    """Read lines `work root at harm`; answer each with how it ended, and how many events there were."""
    sys.path.insert(0, str(Path(__file__).parent))
    import torch

    torch.set_num_threads(1)
    work = {name: kind() for name, kind in WORK.items()}
    import test_train

    test_train.Training(test_train.RUN, test_train.load(test_train.RUN.data), test_train.Machine())  # imports the rest
    import papermill  # noqa: F401

    events = Events()
    for line in sys.stdin:
        name, root, at, harm = json.loads(line)
        root, told = Path(root), os.pipe()
        if not root.exists():
            work[name].prepare(root)
        child = os.fork()
        if not child:
            _do(work[name], root, events, at, harm, told[1])
        os.close(told[1])
        with os.fdopen(told[0]) as pipe:
            said = pipe.read()
        status = os.waitpid(child, 0)[1]
        answer = ["killed", 0] if os.WIFSIGNALED(status) else json.loads(said)
        print(json.dumps([*answer, work[name].made(root), hidden(root)]), flush=True)


def _do(work, root, events, at, harm, pipe):
    end = "done"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            events.at, events.harm = at, harm
            events.watch()
            work.act(root)
    except BaseException as error:
        end = type(error).__name__
    os.write(pipe, json.dumps([end, events.count]).encode())
    os._exit(0)


if __name__ == "__main__":
    serve()
