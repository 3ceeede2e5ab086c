"""Rate limits and quotas: the arithmetic, and the file that lets a quota survive its process."""
