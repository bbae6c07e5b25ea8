"""A server and its client in one file: the least that two programs need to talk over TCP.

Each line that calls the system is what every server of this course does, whatever its I/O model.
"""

import json
import socket
import threading


def client(address: tuple[str, int], spoken: threading.Event, answers: list[bytes]) -> None:
    connection = socket.create_connection(address)
    connection.sendall(b"hello ")  # two sends ...
    connection.sendall(b"world")
    spoken.set()
    answer = b""
    while len(answer) < 11:  # ... and the answer comes in as many pieces as it likes
        answer += connection.recv(1024)
    answers.append(answer)
    connection.close()


def main() -> None:
    listener = socket.socket()           # a socket: the descriptor of a conversation, or of a door
    listener.bind(("127.0.0.1", 0))      # this one is a door: it gets an address (port 0: any free one)
    listener.listen()                    # from now on the kernel lets clients in, even if we do nothing

    spoken, answers = threading.Event(), list[bytes]()
    friend = threading.Thread(target=client, args=(listener.getsockname(), spoken, answers))
    friend.start()
    spoken.wait()                        # the client has connected and spoken; we have accepted nobody yet

    connection, _ = listener.accept()    # a second socket: this conversation
    connection.settimeout(10)
    receives, data = 0, b""
    while len(data) < 11:
        data += connection.recv(1024)    # what lies in the kernel is copied to us
        receives += 1
    connection.sendall(data.upper())     # the service of this course: the same in capitals
    goodbye = connection.recv(1024)      # b"": the client has hung up
    friend.join()
    print(json.dumps({"answered_bytes": len(answers[0]), "right": int(answers[0] == b"HELLO WORLD"),
                      "receives": receives, "goodbye_bytes": len(goodbye)}))


if __name__ == "__main__":
    main()
