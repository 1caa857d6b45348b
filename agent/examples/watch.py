#!/usr/bin/env python3
"""Prints what the model on this board decides. Standard library only.

Usage: watch.py [/var/lib/drover-agent/agent.sock]
"""

import json
import socket
import sys


def results(path):
    """Yields every result from now on, as the README of drover-agent describes them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.connect(path)
        agent.sendall(b'{"op":"subscribe"}\n')
        with agent.makefile(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "/var/lib/drover-agent/agent.sock"
    try:
        for result in results(path):
            if result["type"] == "observation":
                label = result.get("label", result["verdict"])
                print(result["time"], result["model"], result["window"], result["score"], label)
            elif result["type"] == "dropped":
                print(f"too slow: {result['count']} results are lost", file=sys.stderr)
            else:
                sys.exit(result.get("message", str(result)))
            sys.stdout.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever reads this program's output has had enough.
        sys.stderr.close()
    except OSError as error:
        sys.exit(f"cannot read from {path}: {error}; does drover-agent run?")


if __name__ == "__main__":
    main()
