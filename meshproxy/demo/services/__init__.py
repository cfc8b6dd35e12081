"""The demo's services: plain programs that know nothing of tracing and pass on no trace header.

They find their neighbours in environment variables (``ORDERS_URL`` and so on, and
``KAFKA_BOOTSTRAP``), which is all that differs between the run without meshproxy and the run with
it.
"""
