"""What the fake engine says where it is asked for markdown."""

import random

WORDS = ("the", "a", "fox", "lantern", "river", "garden", "child", "song", "boat", "walked", "found", "kept", "once")
MARKDOWN = """# A heading

Some *emphasis*, some `code` and a [link](https://example.org).

- first
- second

```python
def double(x: int) -> int:
    return 2 * x
```

| bits | bytes |
|-----:|------:|
| 4 | 36 |
| 16 | 128 |
"""
_CODE = """```python
def longest_line(path: Path) -> int:
    \"\"\"Return the length of the longest line of part {number}.\"\"\"
    longest = 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:  # one at a time
            longest = max(longest, len(line.rstrip("\\n")))
    return longest
```
"""
_TABLE = """| way | memory | time |
|:----|-------:|-----:|
| `read()` | {number}.0 GB | 1.9 s |
| `readlines()` | 3.2 GB | 4.{number} s |
| iteration | 0.1 MB | 2.4 s |
"""


def long_answer(characters: int) -> str:
    """Return an answer of at least so many characters, as a model lays them out: prose, lists, code, tables."""
    words = random.Random(0)
    parts: list[str] = []
    length = 0
    while length < characters:
        number = len(parts) + 1
        parts.append(
            f"## Part {number}\n\n{_prose(words, 60)}\n\n{_prose(words, 45)}\n\n"
            f"1. {_prose(words, 9)}\n2. **{_prose(words, 4)}** {_prose(words, 8)}\n   - {_prose(words, 6)}\n\n"
            f"{_CODE.format(number=number)}\n{_prose(words, 30)}\n\n{_TABLE.format(number=number)}\n"
        )
        length += len(parts[-1])
    return "".join(parts)


def _prose(words: random.Random, count: int) -> str:
    said = " ".join(words.choice(WORDS) for _ in range(count))
    return f"{said[0].upper()}{said[1:]}."
