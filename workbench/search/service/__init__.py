"""One service a workspace that holds opened indexes for many visitors, and asks adapters on behalf of others.

Whoever asks (the HTTP API, the kernels of a published page, a notebook) sends a question over a local socket
and gets the answer; see :mod:`workbench.search.client` for that side. The service itself runs no adapter's
code: each opened index, and each adapter that is only asked about its options, lives in a process of its own,
a *holder*. One that crashes, hangs or eats the memory is killed and started anew for the next question, and
nobody else notices.

::

    visitor ──┐                        ┌── holder of index "photos"   (adapter, model, codes)
    visitor ──┼── service (asyncio) ───┼── holder of index "words"
    server  ──┘   queues, limits,      └── holder of adapter "toy"    (options only)
                  no adapter's code

Questions, as JSON::

    {"op": "describe", "index": name}
    {"op": "search", "index": name, "by": "text", "text": query, "k": 20, "options": {…}}
    {"op": "search", "index": name, "by": "image", "image": base64, "k": 20, "options": {…}}
    {"op": "search", "index": name, "by": "item", "item": id, "k": 20, "options": {…}}
    {"op": "adapter", "adapter": name}
    {"op": "check", "adapter": name, "type": job type, "options": {…}}
    {"op": "status"}

and answers: ``{"ok": …}`` or ``{"error": {"type", "message", "hint", "details"}}``.
"""
