"""How long the starts that an access log tells of took in the middle, and how much that varies: starts.py ACCESS_LOG. Printed as
`tidegate simulate` takes them, for --start-time and --start-spread. Of a replica for which nobody waited no log tells the start."""

import json
import math
import statistics
import sys

seconds = {}
with open(sys.argv[1]) as lines:
    for line in lines:
        entry = json.loads(line)
        if "start_ms" in entry:
            seconds[entry["replica"]] = entry["start_ms"] / 1000
if not seconds:
    sys.exit(f"starts.py: no request waited for a start in {sys.argv[1]}")
logarithms = [math.log(time) for time in seconds.values()]
print(f"{statistics.median(seconds.values()):.3f}s {statistics.pstdev(logarithms):.2f}")
