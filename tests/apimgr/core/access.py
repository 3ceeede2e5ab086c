from tests.access import Row

ACCESS = {
    "core:theme": Row(anonymous=True, method="post", data={"theme": "dark"}),
    "core:healthz": Row(anonymous=True),
    "core:styleguide": Row(anonymous=True),
    "core:styleguide-chart": Row(anonymous=True),
    "core:styleguide-panel": Row(anonymous=True),
}
