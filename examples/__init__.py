"""Worked examples: projects as people have them, with the locustfiles that measure their pages. See README.md."""
