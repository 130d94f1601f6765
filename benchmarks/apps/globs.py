"""Seconds of CPU of a glob match: `globs.py spanwell|adot`."""

import json
import sys
import time

FOUR_STARS = "*a*a*a*b"
WORST = ("?a" * 63 + "?b", "*" + "?a" * 63 + "b", "*a" * 63 + "*b", "*" + "a" * 126 + "b", "*aa?" * 31 + "*b")


def seconds(matches, pattern, text):
    """The best of three: what the machine does beside only adds."""
    best = float("inf")
    for _ in range(3):
        begin = time.thread_time()
        matches(pattern, text)
        best = min(best, time.thread_time() - begin)
    return best


def main(name):
    if name == "adot":  # its regular expression backtracks: more characters would never end
        from amazon.opentelemetry.distro.sampler._matcher import _Matcher

        print(json.dumps({"short": seconds(lambda p, t: _Matcher.wild_card_match(t, p), FOUR_STARS, "a" * 200)}))
        return
    from spanwell.sampling.glob import matches

    answer = {"short": seconds(matches, FOUR_STARS, "a" * 200), "long": seconds(matches, FOUR_STARS, "a" * 10_000)}
    answer["worst"] = max(seconds(matches, pattern, "a" * 10_000) for pattern in WORST)
    print(json.dumps(answer))


main(sys.argv[1])
