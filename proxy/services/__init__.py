from proxy.services.changes import append_changes as append_changes
from proxy.services.changes import compact_changes as compact_changes
from proxy.services.changes import forget_removals as forget_removals
from proxy.services.changes import forget_secrets as forget_secrets
from proxy.services.credentials import touch_credentials as touch_credentials
from proxy.services.nodes import close_boots as close_boots
from proxy.services.nodes import remove_gone_nodes as remove_gone_nodes
from proxy.services.nodes import remove_node as remove_node
