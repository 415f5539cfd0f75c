"""Compares reports of `tidegate load` with those of `tidegate simulate`: live.py FOLDER PAGE RUNS SLICE...
Each slice may have several reports of `tidegate load`, and one of so many simulated runs; figures are averages."""

import glob
import json
import sys

QUANTILES = ("p50", "p95", "p99")


def read(path):
    with open(path) as file:
        return json.load(file)


def mean(runs):
    """Of several runs; the course is the first one's."""
    figure = lambda of: sum(of(run) for run in runs) / len(runs)
    return {
        "requests": figure(lambda run: run["requests"]),
        "errors": sum(run["errors"] for run in runs),
        "latency": {name: figure(lambda run: run["latency"][name]) for name in QUANTILES},
        "replica_seconds": figure(lambda run: run["replica_seconds"]),
        "course": runs[0]["course"],
    }


def live(report):
    """Requests, times in ms, replica-seconds and the course of ready replicas as (second, count)."""
    looks = (report.get("overlay") or {}).get("looks", [])
    there = lambda look: look["ready"] + look["starting"] + look["leaving"]
    seconds = sum(there(a) * (b["at"] - a["at"]) for a, b in zip(looks, looks[1:]))
    return {
        "requests": report["requests"],
        "errors": round(report["error_rate"] * report["requests"]),
        "latency": {name: report["latency"][name] * 1e3 for name in QUANTILES},
        "replica_seconds": seconds,
        "course": [(look["at"], look["ready"]) for look in looks],
    }


def simulated(report, runs):
    """The same, of one of so many runs on average."""
    one = report[0]
    course = one["course"]
    return {
        "requests": one["requests"] / runs,
        "latency": {name: one["latency_ms"][name] for name in QUANTILES},
        "replica_seconds": one["replica_seconds"] / runs,
        "course": [((at + 1) * course["step_seconds"], ready) for at, ready in enumerate(course["ready"])],
    }


def off(real, told):
    return 0.0 if real == told else (told - real) / real * 100 if real else float("inf")


def polyline(course, width, height, end, top, colour):
    points, before = [], 0
    for at, count in course:
        x = at / end * width
        points += [(x, before), (x, count)]
        before = count
    text = " ".join(f"{x:.1f},{height - count / top * height:.1f}" for x, count in points)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{text}"/>'


def chart(name, real, told):
    width, height = 900, 220
    end = max(course[-1][0] for course in (real["course"], told["course"]) if course)
    top = max([count for _, count in real["course"] + told["course"]] + [1])
    lines = polyline(real["course"], width, height, end, top, "#0b6e4f") + polyline(told["course"], width, height, end, top, "#d1495b")
    return (
        f"<h2>{name}</h2><p>Ready replicas over {end:.0f} s, {top} at most: <b style='color:#0b6e4f'>real</b>, "
        f"<b style='color:#d1495b'>simulated</b></p><svg viewBox='-4 -4 {width + 8} {height + 8}' width='{width}'>{lines}</svg>"
    )


def main():
    folder, page, runs, *slices = sys.argv[1:]
    charts, summary = [], []
    for name in slices:
        real = mean([live(read(path)) for path in sorted(glob.glob(f"{folder}/{name}.*.live.json"))])
        told = simulated(read(f"{folder}/{name}.simulated.json"), int(runs))
        print(f"\n  {name:<16} {'real':>10} {'simulated':>10} {'off by':>8}")
        rows = [(f"{q} ms", real["latency"][q], told["latency"][q]) for q in QUANTILES]
        rows.append(("replica-seconds", real["replica_seconds"], told["replica_seconds"]))
        rows.append(("requests", real["requests"], told["requests"]))
        for label, ours, theirs in rows:
            print(f"  {label:<16} {ours:>10.1f} {theirs:>10.1f} {off(ours, theirs):>+7.0f}%")
        summary.append(
            f"{name}_errors={real['errors']} {name}_p95_off={off(real['latency']['p95'], told['latency']['p95']):+.0f}% "
            f"{name}_cost_off={off(real['replica_seconds'], told['replica_seconds']):+.0f}%"
        )
        charts.append(chart(name, real, told))
    with open(page, "w") as file:
        file.write(f"<!doctype html><meta charset=utf-8><title>Live and simulated</title><body style='font-family:sans-serif'>{''.join(charts)}")
    print(f"\n{page} shows the courses\nlive {' '.join(summary)}")


main()
