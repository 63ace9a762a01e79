"""Samples on disk: files of many, paths in w, and pictures of both."""
