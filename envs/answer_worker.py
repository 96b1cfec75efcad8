"""The child process of `taskgym.envs.answer_pool`: math-verify, one JSON line in, one word out."""

from __future__ import annotations

import json
import math
import resource
import sys
import time

_MEMORY = 4 << 30  # bytes of address space: sympy can ask for all there is


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (soft, hard))


def main() -> None:
    """Answer requests until stdin ends, which it does when the parent is gone."""
    _lower(resource.RLIMIT_AS, _MEMORY)
    _lower(resource.RLIMIT_CORE, 0)
    from math_verify import parse, verify

    def boxed(text: str) -> list[object]:
        # its time-outs are alarms; here the parent's clock decides, so they are off
        return list(parse("\\boxed{" + text + "}", parsing_timeout=None))

    def judge(gold: str, answer: str) -> str:
        given = boxed(answer)
        if not given:
            return "unparsed"
        # a rounded decimal is no equal: compare to nearly all the digits a float has
        equal = verify(boxed(gold), given, float_rounding=12, timeout_seconds=None)
        return "equal" if equal else "different"

    replies = sys.stdout
    sys.stdout = sys.stderr  # nothing a library prints may come between the replies
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        request = json.loads(line)
        # the parent kills on its own clock; this ends a worker whose parent died meanwhile
        _lower(resource.RLIMIT_CPU, math.ceil(time.process_time() + request["limit"]) + 1)
        full = False
        try:
            verdict = judge(request["gold"], request["answer"])
        except RecursionError:
            verdict = "unparsed"  # nested deeper than any answer is
        except MemoryError:
            verdict, full = "unparsed", True
        replies.write(verdict + "\n")
        replies.flush()
        if full:  # the next answer gets a fresh process
            return


if __name__ == "__main__":
    main()
