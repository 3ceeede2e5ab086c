from proxy.services.changes import append_changes as append_changes
from proxy.services.changes import compact_changes as compact_changes
from proxy.services.credentials import touch_credentials as touch_credentials
