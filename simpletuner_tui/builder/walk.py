"""A walk through a configuration's fields, one after another: for front ends that ask in turn."""

from simpletuner_tui.builder.model import Builder, Place
from simpletuner_tui.questions.model import Choice


class Walk:
    """Where a person is among the fields that are asked. Which these are follows from what was answered."""

    def __init__(self, builder: Builder, *, full: bool) -> None:
        """Starts at the first field.

        Args:
            builder: what is edited.
            full: every field, not only those that matter, are set, or have a problem.
        """
        self.builder, self._full = builder, full
        self._number = 0
        """Of the field that is asked, from 0; it holds when a key that was asked about is gone."""
        self._returns: list[Place | None] = []
        """Where the walk goes on after a field that was asked for by name."""
        self.current: Place | None = None
        """The field that is asked; None at the end."""
        self.current = self._places[0][1]

    @property
    def _places(self) -> list[tuple[str, Place]]:
        listed = self.builder.listed(full=self._full, also=self.current)
        return [(topic, place) for topic, places in listed for place in places]

    @property
    def topic(self) -> str:
        """What the field is about."""
        return next((topic for topic, place in self._places if place == self.current), "")

    @property
    def position(self) -> tuple[int, int]:
        """Which field it is, from 1, of how many as far as is known now."""
        places = [place for _, place in self._places]
        if self.current in places:
            self._number = places.index(self.current)
        return self._number + 1, len(places)

    def next(self) -> None:
        """Moves on; after a field that was asked for by name, to where the walk was."""
        if self._returns:
            self._return()
            return
        number, _ = self.position
        places = [place for _, place in self._places]
        following = number if self.current in places else number - 1
        self.current = places[following] if following < len(places) else None

    def back(self) -> bool:
        """Moves to the field before; False at the first."""
        if self._returns:
            self._return()
            return True
        places = [place for _, place in self._places]
        before = len(places) - 1 if self.current is None else self.position[0] - 2
        if before < 0:
            return False
        self.current = places[before]
        return True

    def _return(self) -> None:
        place = self._returns.pop()
        gone = place is not None and self.builder.place(place.path) is None
        self.current = None if gone else place

    def rest(self) -> None:
        """Moves to the end; what is left stays as it stands."""
        self._returns.clear()
        self.current = None

    def visit(self, place: Place) -> None:
        """Asks one field out of turn."""
        self._returns.append(self.current)
        self.current = place

    def standing(self) -> str:
        """What stands at the current field, as an empty answer keeps it."""
        place = self.current
        if place is None or place.field is None:
            return "keep"
        value = self.builder.value(place)
        if not self.builder.is_set(place):
            return f"{value}, filled in" if value else "left out"
        return self.builder.text(place)

    def rows(self) -> tuple[Choice, ...]:
        """What can be chosen for the current field, each with why it does not work here."""
        return () if self.current is None else self.builder.rows(self.current)

    def numbered(self) -> bool:
        """Whether a row may be called by its number: not where rows are numbers themselves, such as stages."""
        return not any(row.value.isdigit() for row in self.rows() if isinstance(row.value, str))

    def read(self, typed: str) -> str:
        """What was typed as the text that a builder takes: a row's number or words are its value.

        Raises:
            ValueError: a key that is not edited here can be kept or taken out only.
        """
        rows = self.rows()
        text = typed.strip()
        numbers = [str(number) for number in range(1, len(rows) + 1)] if self.numbered() else []
        if text in numbers:
            return str(rows[numbers.index(text)].value)
        named = {row.label.partition("  (")[0].strip().lower(): str(row.value) for row in rows}
        if text.lower() not in named and self.current is not None and self.current.field is None:
            raise ValueError(f"type a number from 1 to {len(rows)}")
        return named.get(text.lower(), typed)
