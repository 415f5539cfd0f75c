"""Notes every request as a line of JSON in LOG, and answers `ok`: as a WSGI application, and as a CGI program."""

import json
import os
import sys


def note(environment, target, source):
    length = environment.get("CONTENT_LENGTH")
    body = source.read(int(length)) if length else source.read()
    if length and len(body) < int(length):
        return  # no whole request
    noted = {
        "method": environment["REQUEST_METHOD"],
        "target": target,
        "host": environment.get("HTTP_HOST", ""),
        "forwarded": environment.get("HTTP_X_FORWARDED_FOR", ""),
        "hop": environment.get("HTTP_X_HOP", ""),
        "body": body.decode("latin1"),
    }
    with open(environment.get("LOG") or os.environ["LOG"], "a") as log:
        log.write(json.dumps(noted) + "\n")


def application(environment, start):
    note(environment, environment["RAW_URI"], environment["wsgi.input"])
    start("200 OK", [("Content-Length", "2")])
    return [b"" if environment["REQUEST_METHOD"] == "HEAD" else b"ok"]


if __name__ == "__main__":
    note(os.environ, os.environ["REQUEST_URI"], sys.stdin.buffer)
    sys.stdout.write("Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
