"""A model server in a process of its own, to be killed: reads a port from stdin, binds it, prints it, answers."""

import sys
import time

import answers

print("loaded", flush=True)
port = sys.stdin.readline().strip()


def answer(method, data):
    time.sleep(0.02)  # so that there is something under way when it is killed
    return answers.good_answer(method, data)


server, bound = answers.start(answer, f"127.0.0.1:{port}")
print(bound, flush=True)
server.wait_for_termination()
