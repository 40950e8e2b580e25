"""One search service per workspace: it holds the opened indexes for all clients, and queries adapters.

A client (the HTTP API, the kernels of a published page, a notebook) sends a request over a local socket and
gets the answer; see :mod:`workbench.search.client` for that side. The service itself runs no adapter code.
Each opened index, and each adapter that is only queried for its options, lives in a process of its own, a
*holder*. A holder that crashes, hangs or uses too much memory is killed and restarted for the next request,
without affecting any other.

::

    visitor ──┐                        ┌── holder of index "photos"   (adapter, model, codes)
    visitor ──┼── service (asyncio) ───┼── holder of index "words"
    server  ──┘   queues, limits,      └── holder of adapter "toy"    (options only)
                  no adapter code

Requests, as JSON::

    {"op": "describe", "index": name}
    {"op": "search", "index": name, "by": "text", "text": query, "k": 20, "options": {…}}
    {"op": "search", "index": name, "by": "image", "image": base64, "k": 20, "options": {…}}
    {"op": "search", "index": name, "by": "item", "item": id, "k": 20, "options": {…}}
    {"op": "explain", "index": name, "left": {"by": "text", "value": text, "name": ""}, "right": {…},
     "options": {…}}
    {"op": "fields", "index": name}
    {"op": "adapter", "adapter": name}
    {"op": "check", "adapter": name, "type": job type, "options": {…}, "cwd": folder of relative paths,
     "fail_below": {…}, "workspace": {"path": folder, "database_url": URL}}
    {"op": "status"}

Answers: ``{"ok": …}`` or ``{"error": {"type", "message", "hint", "advice", "details"}}``.
"""
