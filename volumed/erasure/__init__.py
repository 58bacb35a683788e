"""Erasure coding of volumes (docs/spec/erasure-coding.md): decisions, and operations on files that workers call."""
