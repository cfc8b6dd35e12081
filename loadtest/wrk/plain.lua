-- The same request again and again, as an HTTP client library sends it (Host is wrk's own).
wrk.headers["User-Agent"] = "python-httpx/0.28.1"
wrk.headers["Accept"] = "application/json"
wrk.headers["Accept-Encoding"] = "gzip, deflate"
wrk.headers["Connection"] = "keep-alive"
wrk.headers["Authorization"] = "Bearer 5d41402abc4b2a76b9719d911017c592"

dofile(os.getenv("BENCH_REPORT_LUA"))
