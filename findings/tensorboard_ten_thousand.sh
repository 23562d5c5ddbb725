#!/usr/bin/env bash
# TensorBoard's reader gives 10,000 of a log's 12,000 steps, drawn at random.
#
# Versions: tensorboard 2.21.0, tensorboardX 2.6.5.
# A good guess: EventAccumulator gives what the event file holds.
# Seen: 10,000 scalars a tag unless size_guidance says otherwise; those left out lie anywhere, the first and the last step
# are kept, and nothing tells that some are missing. With {"scalars": 0} all 12,000 are there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check tensorboard==2.21.0 tensorboardX==2.6.5 setuptools
cat > "$work/check.py" <<'PY'
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


writer = SummaryWriter("run")
for step in range(12000):
    writer.add_scalar("loss", 1 / (step + 1), step)
writer.close()
counts, ends = [], None
for guidance in (None, {"scalars": 0}):
    reader = EventAccumulator("run", size_guidance=guidance)
    reader.Reload()
    steps = [event.step for event in reader.Scalars("loss")]
    counts.append(len(steps))
    ends = ends or [steps[0], steps[-1]]
check("steps by default and without a bound", [12000, 12000], counts, counts == [10000, 12000])
check("first and last by default", [0, 11999], ends, ends == [0, 11999])
PY
cd "$work"
venv/bin/python check.py
