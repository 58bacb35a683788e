"""Image transformation: arithmetic, the killable child process that decodes, and a front's side of it (http.md 3.9)."""
