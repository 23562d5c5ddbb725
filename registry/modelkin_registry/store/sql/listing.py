"""Models as lines of a list: which of them, in which order, and what they come to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.choosing import facets_of
from modelkin_registry.store.sql.matching import AUTHOR, CURRENT_REVISION, MATCHED, counted, current, ordered, where
from modelkin_registry.store.sql.reading import NUMBERS, TABLES, TOLD, Reading, numbered
from modelkin_registry.store.sql.session import DOCTOR, Row

if TYPE_CHECKING:
    from modelkin_registry.answers.upkeep import ListedModel
    from modelkin_registry.store.filters import Where

LISTED = f"""{TOLD}, (SELECT count(*) FROM revision AS other WHERE other.model = model.id) AS revisions {TABLES}
    WHERE searched.revision IN {NUMBERS}"""  # noqa: S608
ALL = """SELECT revision.id FROM model JOIN revision
    ON revision.id = (SELECT max(id) FROM revision AS other WHERE other.model = model.id)"""
SUMMED = f"""SELECT facet.level AS level, facet.family AS family, CASE WHEN facet.adapter != '' THEN 1 ELSE 0 END AS is_adapter,
    CASE WHEN model.sender != '' THEN 1 ELSE 0 END AS is_imported, count(*) AS models, sum(facet.parameters) AS parameters,
    sum((SELECT count(*) FROM revision AS other WHERE other.model = facet.model)) AS revisions,
    sum(CASE WHEN facet.parameters IS NULL THEN 1 ELSE 0 END) AS unknown {MATCHED}
    WHERE {CURRENT_REVISION} AND ("""  # noqa: S608
SUMMED_BY = ") GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
AUTHORS = f"""SELECT {AUTHOR} AS author, count(*) AS models FROM model WHERE redirect_to IS NULL AND name LIKE '%/%'
    GROUP BY 1 ORDER BY models DESC, author"""  # noqa: S608
COMPONENTS = f"SELECT facet.components AS components, count(*) AS models {MATCHED} WHERE {CURRENT_REVISION} GROUP BY 1"
TAGS_USED = f"""SELECT tag.name AS name, count(*) AS models FROM tag
    WHERE tag.model IN (SELECT facet.model {MATCHED} WHERE {CURRENT_REVISION} AND """  # noqa: S608


class Listing(Reading):
    """A registry whose models are listed, chosen and counted."""

    def matching(self, conditions: Where, *, current: bool = False) -> list[int]:
        """The numbers of all revisions that are searched and meet the conditions, or of the `current` ones of them alone, ascending."""
        text, values = where(conditions)
        only = f"{CURRENT_REVISION} AND " if current else ""
        outdated = set(self.outdated())
        found = self.column(f"SELECT facet.revision {MATCHED} WHERE {only}{text} ORDER BY facet.revision", values)
        return [number for number in found if number not in outdated]

    def count_matching(self, conditions: Where) -> int:
        """Number of models whose current revisions meet the conditions, outdated ones too."""
        text, values = counted(conditions)
        return int(self.value(f"SELECT count(*) {text}", values))

    def listed(
        self,
        conditions: Where = (),
        *,
        sort: str = "name",
        reverse: bool = False,
        first: str = "",
        start: int = 0,
        limit: int | None = None,
    ) -> list[ListedModel]:
        """One line a model whose current revision meets the conditions; texts from A, numbers and dates from the largest.

        `first`: models of this name come before all others, then those whose names begin so. `start`: how many to pass over.
        """
        chosen, values = current(conditions, sort)
        order, more = ordered(sort, reverse, first)
        chosen = ALL if not conditions and sort == "name" else f"SELECT facet.revision {chosen}"  # all of them need nothing derived
        bound = "" if limit is None else f" LIMIT {int(limit)} OFFSET {int(start)}"
        with self.reading():
            wanted = self.column(f"{chosen} ORDER BY {order}{bound}", values + more)
            found = self.lines(wanted)
            expected = self.count() if not conditions and limit is None else len(wanted)
            if lost := abs(expected - len(found)):
                raise RegistryError(f"{self.name}: {lost} of {self.count()} models are damaged. {DOCTOR}.")
        return found

    def lines(self, revisions: Sequence[int]) -> list[ListedModel]:
        """A line for each of these revisions, in their order; removed ones are left out."""
        with self.reading():
            rows = {row["number"]: row for row in self.rows(LISTED, [numbered(revisions)])}
            models = [row["model_id"] for row in rows.values()]
            tags, notes = self.labels.tags(models), self.labels.notes(models)
        found = [rows[number] for number in revisions if number in rows]
        return [self._listed(row, tags.get(row["model_id"], ()), notes.get(row["model_id"], "")) for row in found]

    def _listed(self, row: Row, tags: tuple[str, ...], note: str) -> ListedModel:
        model, revision, fingerprint = (self.whole(row, table) for table in ("model", "revision", "fingerprint"))
        about, config = json.loads(fingerprint["about"]), json.loads(revision["config"])
        facets = facets_of(fingerprint["level"], fingerprint["coverage"], revision["parameters"], revision["bytes_total"], about, config)
        from modelkin_registry.answers.upkeep import ListedModel

        return ListedModel(
            model["name"],
            facets.level,
            facets.parameters,
            facets.components,
            model["added"],
            self._origin(row),
            row["revisions"],
            model["sender"],
            updated=revision["added"],
            family=facets.family,
            quantization=facets.quantization,
            adapter=facets.adapter,
            bytes_total=facets.bytes,
            coverage=facets.coverage,
            tags=tags,
            note=note,
        )

    def summed(self, conditions: Where = ()) -> list[dict[str, Any]]:
        """How many models there are of each level, family and kind, and their numbers; see SUMMED."""
        text, values = where(conditions)
        return self.dicts(f"{SUMMED}{text}{SUMMED_BY}", values)

    def authors(self, most: int) -> dict[str, int]:
        """The authors with the most models, and how many each has: what stands before the first slash of names that have one."""
        statement = f"{AUTHORS} LIMIT {int(most)}"
        return {row["author"]: int(row["models"]) for row in self.rows(statement)}

    def components(self) -> dict[str, int]:
        """How many models have each component, the most frequent first."""
        found: Counter[str] = Counter()
        for row in self.rows(COMPONENTS):
            found.update(dict.fromkeys(filter(None, str(row["components"]).split(",")), int(row["models"])))
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))

    def newest(self) -> str | None:
        """When the last model came; None without any."""
        found = self.value("SELECT max(added) FROM model WHERE redirect_to IS NULL")
        return None if found is None else str(found)

    def tags_used(self, conditions: Where = ()) -> dict[str, int]:
        """Every tag that any of the models has that meet the conditions, and how many have it; by name."""
        text, values = where(conditions)
        return {row["name"]: int(row["models"]) for row in self.rows(f"{TAGS_USED}{text}) GROUP BY tag.name ORDER BY tag.name", values)}
