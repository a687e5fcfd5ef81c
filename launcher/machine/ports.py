"""Ports of this machine."""

import errno
import socket

_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""What a machine without it says."""


def is_free(port: int) -> bool:
    """Whether a process could listen at a port now, on every address, as rank 0 of several machines does.

    Args:
        port: 0 asks for any.
    """
    families = [socket.AF_INET6, socket.AF_INET] if socket.has_ipv6 else [socket.AF_INET]
    for family in families:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as listening:
                # A connection that has ended keeps no one from listening, as torch asks for as well.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind(("", port))
                listening.listen(1)
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in _NO_IPV6:
                continue
            return False
    return True
