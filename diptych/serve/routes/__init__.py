"""The routes, a module for each part of docs/serve.md."""
