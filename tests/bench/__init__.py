"""Side-by-side measurements; `python -m tests.bench` (what `make bench` calls) prints them."""
