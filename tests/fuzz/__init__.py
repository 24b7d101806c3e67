"""`python -m fuzz TARGET`: a coverage-guided fuzzer (atheris) in the decoders and cores of every socket; see `fuzz.targets`."""
