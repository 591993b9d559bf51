"""Calls a method of the service some times and prints the answers: call.py ADDRESS METHOD MESSAGE TIMES"""
import sys

import grpc

address, method, message, times = sys.argv[1:]
with grpc.insecure_channel(address) as channel:
    call = channel.unary_unary(f"/test.Service/{method}")
    print(*(call(message.encode(), timeout=10).decode() for _ in range(int(times))))
