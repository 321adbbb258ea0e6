"""Which conversations hold the words that a person looks for, as a condition on the table `conversation`.

A word of three characters and more is found by the index of messages where few hold it. Where many do, naming them all
takes longer than to read texts from the conversation changed last on, until there are as many as are returned.
"""

from app.store.database import Database

MOST_FOUND = 500
"""Most conversations that a search returns."""
IN_ORDER = "ORDER BY is_pinned DESC, updated_at DESC, id DESC"
"""Pinned conversations first, then the last changed."""

_INDEXED_LENGTH = 3
"""The index finds runs of at least so many characters."""
_MANY = 8_000
"""Messages with a word from which on the index is not asked for all of them: naming them takes some 10 ms there."""
_NEWEST = 500
"""In so many conversations, those changed last, messages are searched for shorter words, and in pinned ones."""
_IS_NEW = f"""(is_pinned OR updated_at >= (
    SELECT min(updated_at) FROM (SELECT updated_at FROM conversation ORDER BY updated_at DESC LIMIT {_NEWEST})
))"""


def clauses(database: Database, text: str) -> tuple[str, list[str]]:
    """Return what follows `SELECT ... FROM conversation`, and its values.

    Found is what has every word of `text` in its title or a message; all conversations, where there are no words.
    """
    conditions: list[str] = []
    values: list[str] = []
    for word in text.split():
        holds, sought = _holds(word)
        read = f"EXISTS (SELECT 1 FROM message WHERE conversation_id = conversation.id AND {holds.format('text')})"
        if len(word) < _INDEXED_LENGTH:
            conditions.append(f"({holds.format('title')} OR {_IS_NEW} AND {read})")
            values += [sought, sought]
        elif _in_many(database, _quoted(word)):
            conditions.append(f"({holds.format('title')} OR {read})")
            values += [sought, sought]
        else:
            named = "SELECT rowid FROM message_text WHERE message_text MATCH ?"
            listed = f"SELECT conversation_id FROM message WHERE id IN ({named})"
            conditions.append(f"({holds.format('title')} OR id IN ({listed}))")
            values += [sought, _quoted(word)]
    if not conditions:
        return IN_ORDER, []
    return f"WHERE {' AND '.join(conditions)} {IN_ORDER} LIMIT {MOST_FOUND}", values


def _in_many(database: Database, quoted: str) -> bool:
    some = "SELECT 1 FROM message_text WHERE message_text MATCH ? LIMIT ?"
    ((count,),) = database.rows(f"SELECT count(*) FROM ({some})", (quoted, _MANY))
    return bool(count >= _MANY)


def _holds(word: str) -> tuple[str, str]:
    """Return a condition on a column, with a place for its name, and the value that it compares with.

    SQLite's own LIKE takes a quarter of the time, but knows upper and lower case of ASCII only.
    """
    if word.isascii():
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return "{} LIKE ? ESCAPE '\\'", f"%{escaped}%"
    return "instr(folded({}), ?)", word.casefold()


def _quoted(word: str) -> str:
    """Return `word` as one string of the full-text query language, in which nothing has a meaning."""
    return '"' + word.replace('"', '""') + '"'
