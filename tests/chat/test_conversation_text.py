from app.chat.conversation_text import as_markdown
from app.chat.message import Message, Role


def test_a_conversation_is_one_text_with_its_speakers():
    said = [
        Message(Role.USER, "Why?\n"),
        Message(Role.ASSISTANT, "<think>Hm.</think>\n\n```c\nint x;\n```"),
        Message(Role.USER, "So?"),
        Message(Role.ASSISTANT, ""),
    ]
    text = "# Why\n\n**You**\n\nWhy?\n\n**Nibble**\n\n```c\nint x;\n```\n\n**You**\n\nSo?\n"
    assert as_markdown("Why", said) == text
