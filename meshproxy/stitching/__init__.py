"""The command ``meshproxy stitch``: reads files of spans, writes them with parents filled in."""
