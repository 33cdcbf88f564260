"""An MCP server over stdio that behaves as the words after its name say; by itself, well.

Standard library only. It knows nothing of Agentry's code.
"""

import json
import os
import subprocess
import sys
import threading
import time

HOW = set(sys.argv[1:])
BIG = 50 * 1024 * 1024
lock = threading.Lock()
cancelled = []
lists = 0
child = None


def write(text):
    with lock:
        sys.stdout.write(text)
        sys.stdout.flush()


def send(message):
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def text(value, **more):
    return {"content": [{"type": "text", "text": value}], **more}


def tools():
    number = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    names = ["echo", "env", "pids", "lists", "cancelled", "sleep", "die", "big", "ascii", "numbers", "grow", "flood", "fail", "refuse", "meta"]
    if "changed" in HOW:
        names.append("later")
    listed = [{"name": name, "description": "Does " + name, "inputSchema": {"type": "object"}} for name in names]
    listed[0]["inputSchema"] = number
    return listed


def flood(count):
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 200}})
    changed = json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    for _ in range(count // 100):
        write((note + "\n") * 99 + changed + "\n")


def call(id, name, arguments, params):
    global child
    if name == "echo":
        return text("echo " + json.dumps(arguments, sort_keys=True))
    if name == "env":
        return text(json.dumps(dict(os.environ), sort_keys=True))
    if name == "meta":
        return text(json.dumps(params.get("_meta", {}), sort_keys=True))
    if name == "pids":
        child = child or subprocess.Popen(["sleep", "1000"])
        return text(json.dumps([os.getpid(), child.pid]))
    if name == "lists":
        return text(str(lists))
    if name == "cancelled":
        return text(json.dumps(cancelled))
    if name == "sleep":
        return None
    if name == "die":
        sys.stderr.write("a bug in the server\n")
        sys.stderr.flush()
        os._exit(3)
    if name == "big":
        return text("ä" * (BIG // 2))
    if name == "ascii":
        # Escaped: two halves for each character.
        write('{"result": {"content": [{"type": "text", "text": "')
        for _ in range(BIG // 12 // 1000):
            write("\\ud83d\\ude00" * 1000)
        write('"}]}, "jsonrpc": "2.0", "id": %s}\n' % json.dumps(id))
        return None
    if name == "numbers":
        return {"content": [], "structuredContent": {"all": list(range(BIG // 8))}}
    if name == "grow":
        HOW.add("changed")
        send({"method": "notifications/tools/list_changed"})
        return text("grown")
    if name == "flood":
        flood(50_000)
        return text("flooded")
    if name == "fail":
        return text("no such customer", isError=True)
    raise KeyError(name)


def answer(message):
    global lists
    id, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if method == "initialize":
        if "hang" in HOW:
            return
        if "flood" in HOW:
            flood(50_000)
        result = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "hostile", "version": "1"},
        }
        send({"id": id, "result": result})
    elif method == "tools/list":
        lists += 1
        send({"id": id, "result": {"tools": tools()}})
    elif method == "tools/call":
        try:
            result = call(id, params["name"], params.get("arguments"), params)
        except KeyError as error:
            send({"id": id, "error": {"code": -32602, "message": "unknown tool %s" % error}})
            return
        if result is not None:
            with lock:
                # As servers do that build the whole line first.
                json.dump({"result": result, "jsonrpc": "2.0", "id": id}, sys.stdout, ensure_ascii=False)
                sys.stdout.write("\n")
                sys.stdout.flush()
    elif method == "notifications/cancelled":
        cancelled.append(params.get("requestId"))


def main():
    if "stderr" in HOW:
        sys.stderr.write("cannot log in with %s\n" % os.environ.get("SECRET", "nothing"))
        sys.exit(3)
    if "banner" in HOW:
        write('Welcome! "unclosed\n{"half": \n[1, 2]\n\n')
    while "garbage" in HOW:
        write("not JSON at all\n" * 1000)
    if "deaf" in HOW:
        while True:
            time.sleep(3600)
    for line in sys.stdin:
        answer(json.loads(line))
    if "stubborn" in HOW:
        while True:
            time.sleep(3600)


main()
