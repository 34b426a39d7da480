"""A terminal's screen: what it shows of what is written to it."""

from rich.cells import cell_len


class Screen:
    """A terminal that breaks lines at its margin, as xterm does: not before the next character."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.at = 0

    def write(self, text: str) -> None:
        clear = "\x1b[K"
        for piece in text.replace(clear, "\0"):
            row = self.rows[-1]
            if piece == "\0":
                del row[self.at :]
            elif piece == "\n":
                self.rows.append([])
                self.at = 0
            elif piece == "\t":
                self.at += 8 - self.at % 8
                row.extend(" " * (self.at - len(row)))
            elif piece == "\b":
                assert self.at > 0, "backspace at the left margin"
                self.at = min(self.at, self.columns - 1) - 1
            else:
                self._put(piece)

    def _put(self, character: str) -> None:
        width = cell_len(character)
        if width == 0:  # Joins the character before it.
            self.rows[-1][self.at - 1] += character
            return
        if self.at + width > self.columns:
            self.rows.append([])
            self.at = 0
        row = self.rows[-1]
        row[self.at : self.at + width] = [character, *[""] * (width - 1)]
        self.at += width

    @property
    def text(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self.rows)
