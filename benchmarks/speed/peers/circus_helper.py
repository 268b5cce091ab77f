"""Runs in the environment of circus: takes orders by line, and asks circusd over its socket."""

import json
import sys
import threading
import time

from circus.client import CircusClient


def client(endpoint: str) -> CircusClient:
    """A client of its own connection."""
    return CircusClient(endpoint=endpoint, timeout=120)


def load(endpoint: str, clients: int, seconds: float) -> dict:
    """Ask for all statuses; how long each call took, and the bytes of an answer."""
    took, sizes, end = [], [], time.monotonic() + seconds

    def run() -> None:
        mine = client(endpoint)
        while (begun := time.monotonic()) < end:
            answer = mine.send_message("status")
            took.append(time.monotonic() - begun)
            sizes.append(answer)
        mine.stop()

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"took": took, "size": len(json.dumps(sizes[-1]))}


def answer(endpoint: str, verb: str, *arguments: object) -> object:
    """What an order results in."""
    if verb == "load":
        return load(endpoint, *arguments)
    return client(endpoint).send_message(verb, **(arguments[0] if arguments else {}))


for line in sys.stdin:
    try:
        result = {"result": answer(sys.argv[1], *json.loads(line))}
    except Exception as error:  # noqa: BLE001 - told to whoever asked
        result = {"error": repr(error)}
    print(json.dumps(result), flush=True)
