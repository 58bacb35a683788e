"""Connections: from bytes on a socket to exchanges of a request and its response, HTTP/1 and HTTP/2."""
