"""The long forms: training for an hour, and signals at random moments to the commands themselves.

`python tests/soak.py train --seconds 3600` trains many small runs and looks at memory, open files and threads of all
processes; `python tests/soak.py signals --times 100` kills, interrupts and ends commands, starts them again, and
compares what comes out with what an undisturbed command makes. Both print what they found, and end with 1 if it is bad.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import hidden, measured

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests" / "tiny.toml"
SLACK = 1.05  # what memory may grow by, from the second quarter of the time to the last
PROFILE = """title = "many small runs"
hardware = "any"
[run]
data = { name = "longrange", size = 12, distance = 6, train = 96, test = 40 }
epochs = 2
batch_size = 32
model = "long_range_cnn"
[[runs]]
study = "soak"
sweep = { seed = [%s], alpha = [0, 0.0625] }
"""


# ---- an hour of training


def used(root_pid):
    """Megabytes, open files and threads of a process and all below it, and how many these are."""
    pids, waiting = [], [root_pid]
    while waiting:
        pid = waiting.pop()
        pids.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            waiting += [int(child) for child in task.read_text().split()]
    memory = files = threads = 0
    for pid in pids:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        memory += int(lines["VmRSS"].split()[0]) / 1024
        threads += int(lines["Threads"])
        files += len([*Path(f"/proc/{pid}/fd").iterdir()])
    return memory, files, threads, len(pids)


def train(seconds):
    """Train for so long, and compare the last quarter of that time with the second."""
    folder = Path(tempfile.mkdtemp())
    (folder / "soak.toml").write_text(PROFILE % ", ".join(map(str, range(40_000))))
    command = [sys.executable, "-m", "ssconv_lib", "train", "--profile", folder / "soak.toml"]
    command += ["--records", folder / "records", "--budget", str(seconds), "--workers", "2"]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    looks = []
    while process.poll() is None:
        time.sleep(min(5, seconds / 40))
        try:
            looks.append(used(process.pid))
        except (OSError, KeyError):  # one has just ended
            continue
    runs = len([*(folder / "records").rglob("*.json")])
    quarter = len(looks) // 4
    before, after = ([*zip(*looks[k * quarter : (k + 1) * quarter], strict=True)] for k in (1, 3))
    print(f"{runs} runs in {time.monotonic() - start:.0f} s, {len(looks)} looks")
    flat = process.returncode == 0
    for name, early, late in zip(("megabytes", "open files", "threads", "processes"), before, after, strict=True):
        middles = statistics.median(early), statistics.median(late)
        print(f"{name}: {middles[0]:.0f} in the second quarter, {middles[1]:.0f} in the last")
        flat &= middles[1] <= SLACK * middles[0] + (2 if name != "megabytes" else 0)
    left = [path for path in hidden(folder) if "records/soak" in path]
    print(f"lying about: {left or 'nothing'}")
    shutil.rmtree(folder)
    return flat and not left


# ---- signals


def commands(root):
    """The commands, each with the folder whose files must be the same in the end."""
    records = root / "records"
    yield "train", ["train", "--profile", TINY, "--study", "alpha_sweep", "--records", records], records
    yield "merge", ["merge", ROOT / "results" / "records" / "laptop", "--records", records], records
    yield "reproduce", ["reproduce", "--profile", TINY, "--chapter", "03"], root / "results" / "tiny" / "tables"


def run(command, root, after=None, sign=None, whole=False):
    """A command to its end, or until it gets a signal after so many seconds; how it ended, what it said, how long."""
    environment = {**os.environ, "SSCONV_RESULTS": str(root / "results"), "SSCONV_DATA": str(root / "data")}
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "ssconv_lib", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        (os.killpg if whole else os.kill)(process.pid, sign)
        said = process.communicate()[1]
    return process.returncode, said, time.monotonic() - start


def told(said):
    """Tell whether an interrupt was answered, whatever a dying kernel says; Python itself does while it imports."""
    importing = said.rstrip().endswith("KeyboardInterrupt") and ", in main\n" not in said
    return importing or "interrupted; " in said


def made(folder):
    """What must be the same: of records what was measured, of tables the bytes."""
    found = {}
    for path in sorted(folder.rglob("[!.]*.*")):
        if path.suffix == ".json":
            found[path.name] = measured(path)
        elif path.suffix == ".csv":
            found[path.name] = path.read_bytes()
    return found


def signals(times, seed):
    """Hurt the commands so many times in all; print and return whether everything came out."""
    draw, bad, done, shown = random.Random(seed), [], 0, 0
    names = [name for name, _, _ in commands(ROOT)]
    for number, name in enumerate(names, 1):
        with tempfile.TemporaryDirectory() as place:
            command, folder = _of(name, Path(place))
            length, expected = run(command, Path(place))[2], made(folder)
        while done < times * number / len(names):
            with tempfile.TemporaryDirectory() as place:
                command, folder = _of(name, Path(place))
                for _ in range(draw.randint(1, 3)):  # hurt again before it has recovered
                    sign = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
                    said = run(command, Path(place), draw.uniform(0, length), sign, draw.random() < 0.5)[1]
                    done += 1
                    if sign != signal.SIGKILL and "Traceback" in said and not told(said):
                        bad.append(f"{name}: a traceback after {sign.name}: {said[-2000:]}")
                time.sleep(3)  # what a killed process leaves running ends by itself
                code, said, _ = run(command, Path(place))
                if code or made(folder) != expected:
                    bad.append(f"{name}: ended with {code}, or with other results: {said[-2000:]}")
                if left := hidden(Path(place)):
                    bad.append(f"{name}: left {left}")
            print(*bad[shown:], f"{name}: {done} signals, {len(bad)} faults", sep="\n", flush=True)
            shown = len(bad)
    return not bad


def _of(name, root):
    """The command of this name and its folder."""
    return next((command, folder) for known, command, folder in commands(root) if known == name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train", "signals"])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=2026)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background a shell has commands ignore it
    sys.exit(not (train(args.seconds) if args.what == "train" else signals(args.times, args.seed)))
