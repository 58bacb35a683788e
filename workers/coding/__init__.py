"""The arithmetic of erasure coding in a process of its own: the worker's side, the process, what they tell each other.

In the worker it would hold the interpreter, and a processor, when a small request of the same disk wants them
(docs/performance.md has the figures).
"""
