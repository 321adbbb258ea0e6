"""Speed and memory of a whole model, int4 against fp16: `python -m app.engine.bench`."""
