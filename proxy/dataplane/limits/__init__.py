"""Rate limits and quotas: the arithmetic, and the file that lets a quota survive its process."""

from typing import Final

# What a meter makes of a call. Only REFUSED is false, so where nobody else spends an answer is as good as a boolean.
REFUSED: Final = 0
TAKEN: Final = 1
ASKING: Final = 2  # nothing yet: ask for what is lacking, or try again in a moment
