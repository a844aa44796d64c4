"""Takes the safeguards out of a copy of the script, one by one, and shows that a test turns red for each.

    uv run python tests/mutations.py            all mutants
    uv run python tests/mutations.py fsync      those with this word in their name

Ends with status 1 if a mutant survives, that is, if its tests stay green, and with 2 if the script no longer has
the text that a mutant changes.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
SCRIPT = TESTS.parent / "databricks-uploader" / "sqlite_to_databricks_uploader.py"
STAND_INS = TESTS.parent / "demo-network"


@dataclass(frozen=True)
class Mutant:
    """A safeguard: `old` occurs once in the script and becomes `new`; `tests` are a file and an expression for -k."""

    name: str
    old: str
    new: str
    tests: tuple[str, str]


SENDING, SOURCE, STATE = "test_faults_sending.py", "test_faults_source.py", "test_faults_state.py"
TIMES = "test_cursor_time.py"

MUTANTS = (
    Mutant(
        "a large whole number among others is read as a fraction", "is_exact = all(abs(number) < 2**53",
        "is_exact = all(abs(number) < 2**63", ("test_source.py", "of_another_class or other_classes"),
    ),
    Mutant(
        "what class a value is of is left to the driver",
        "return plain_column(next(iter(classes), \"integer\"), parts[1]) if len(classes) <= 1 else None",
        "return plain_column({'int64': 'integer', 'float64': 'real'}.get(str(parts[1].type).lower(), 'text'), parts[1])",
        ("test_source.py", "of_another_class or other_classes"),
    ),
    Mutant(
        "numbers of two units are times of one", "if len(units) != 1 or not units", "if not units",
        ("test_rows.py", "together_as_each or one_by_one"),
    ),
    Mutant(
        "any number is 0 or 1", "if {*data.to_pylist()} <= {0, 1, None} else None", "", ("test_rows.py", "fast_way"),
    ),
    Mutant(
        "any text is a day", 'is_usual = shapes == b"0000-00-00\\n" * len(texts) and', "is_usual =",
        ("test_rows.py", "fast_way or both_ways"),
    ),
    Mutant(
        "types of the first rows", 'self.database.table(f"SELECT {values} {rows}", limit + 1)',
        'self.database.table(f"SELECT {values} {rows}", 1000)', ("test_source.py", "of_another_class"),
    ),
    Mutant(
        "a table without columns takes no rows", "if target is not None and given and not sources:",
        "if target and given and not sources:", ("test_warehouse.py", "without_columns"),
    ),
    Mutant(
        "a large row goes as text where no file can be put", "sample if is_text else None)", "None)",
        ("test_warehouse.py", "where_no_file_can_be_put"),
    ),
    Mutant(
        "a session that is refused is no fault of a file", "        self.session.opened()  # That a session is refused is no fault of the file.\n",
        "", ("test_warehouse.py", "does_not_come_back"),
    ),
    Mutant(
        "a session that is refused is no fault of a copy", "        self.session.opened()  # Nor is it one of its copy.\n", "",
        ("test_warehouse.py", "does_not_come_back"),
    ),
    Mutant(
        "what arrived before it was edited is not set aside",
        'tally.bad = 0 if "replayed" in intent else delivery.job.quarantine.count(intent["sequence"])', "pass", ("test_cycle.py", "edited_since_their_commit"),
    ),
    Mutant(
        "what can't be sent again goes to quarantine", 'if took_place and intent.get("route") == "zerobus":', "if False:",
        ("test_zerobus.py", "do_not_fit_any_more"),
    ),
    Mutant(
        "a time of 61 minutes among others of one form", 'return bool(b"".join(tens).translate(None, b"012345"))',
        "return False", ("test_rows.py", "no_clock_shows"),
    ),
    Mutant(
        "ISO-8601 needs no pattern", "told |= {AUTO._replace(zone=zone): (1 - latest, latest)}", "pass",
        ("test_first_contact.py", "keeps_its_format"),
    ),
    Mutant(
        "what helps one stream leaves the others alone", "error.hint = hint_of(name, error.hint)", "pass",
        ("test_streams.py", "leaves_the_others_where"),
    ),
    Mutant(
        "another uploader's directory is none of a stream", " if file.parent.name.startswith(ours))", ")",
        ("test_streams.py", "another_uploader_within"),
    ),
    Mutant(
        "a quarantine is looked for beside its state", "{*own.files(), *place.quarantine.files()}",
        "{*own.files()}", ("test_watching.py", "its_quarantine_counts_as_after"),
    ),
    Mutant(
        "a stream that went is known by its directory", "StateFile(self.config.state_dir / known[name])",
        "StateFile(self.config.state_dir / encoded_name(name))", ("test_streams.py", "does_not_tell_its_name"),
    ),
    Mutant(
        "a worse error of a stream is the run's", "max({*statuses, error.status}, key=STATUSES.index)", "error.status",
        ("test_streams.py", "hides_no_worse_error"),
    ),
    Mutant(
        "figures of the other form are left out", " if bool(name) == bool(config.tables)}", "}",
        ("test_watching.py", "no_series_is_there_twice"),
    ),
    Mutant(
        "a state is never in a store", r"dbfs):|\w+://|:memory:$", "x):|:memory:$",
        ("test_configuration.py", "state_in_a_store"),
    ),
    Mutant(
        "off is no file and no table", 'if setting.shown == "off" and str(value)', "if False and str(value)",
        ("test_configuration.py", "off_is_no_file"),
    ),
    Mutant(
        "quotes that a variable keeps are said", """re.fullmatch(r\"\"\"(["']).*\\1\"\"\", value, re.DOTALL)""", "False",
        ("test_configuration.py", "quotes_around"),
    ),
    Mutant(
        "what a YAML file has in place of a secret is not shown", "if isinstance(error, yaml.scanner.ScannerError) else", "if where else",
        ("test_configuration.py", "reference_or_tag"),
    ),
    Mutant(
        "a variable as a key names its setting", "named.get(str(key).upper(), str(key).lower())", "str(key)",
        ("test_configuration.py", "capital_letters"),
    ),
    Mutant(
        "rows that were given other times are new where a copy is beside", "(evidence.is_retimed or not is_renamed(", "(not is_renamed(",
        ("test_cursor_file.py", "copy_of_the_old"),
    ),
    Mutant(
        "rows that become large are written with all others", "if sent and held > TOGETHER_BYTES:", "if False:",
        ("test_ladder.py", "become_large"),
    ),
    Mutant(
        "rows that are equal by chance are proof", "return whole if is_timed or is_seldom else []",
        "return whole", ("test_cursor_file.py", "by_chance"),
    ),
    Mutant(
        "columns under new names are others", "return pairs | dict(zip(", "return pairs or dict(zip(",
        ("test_cursor_file.py", "new_names"),
    ),
    Mutant(
        "a column that took the place of another tells nothing", "is_other = len(pairs) < min(", "is_other = len(pairs) < 0 * min(",
        ("test_cursor_file.py", "by_chance"),
    ),
    Mutant(
        "rows have to have the time of before no more", "(is_same_time or not time_column_now(state, self.table))", "True",
        ("test_cursor_file.py", "wide_table"),
    ),
    Mutant(
        "the first of several places is taken", "best = sorted(itertools.islice(self._places(state, run, edited), MOST_PLACES), reverse=True)[:2]",
        "best = [*itertools.islice(self._places(state, run, edited), 1)]", ("test_cursor_file.py", "like_the_newest"),
    ),
    Mutant(
        "of several places that fit the highest is taken", "if is_equal and not place == run[0].rowid == self.reader.bounds()[1]:", "if False:",
        ("test_cursor_file.py", "in_turn"),
    ),
    Mutant(
        "equal rows of a queue are those of before", "if is_emptied and is_refilled and self.here.table.time is None:", "if False:",
        ("test_cursor_file.py", "equal_rows_that"),
    ),
    Mutant(
        "a row that is equal by chance was renumbered", "if -fit * math.log2(chance) < 20:", "if False:",
        ("test_cursor_file.py", "loses_no_row_by_chance"),
    ),
    Mutant(
        "a run that is cut off at the first row is whole", "((1 + is_exact) * count, rowid)", "(10**6 * is_exact + count, rowid)",
        ("test_cursor_file.py", "table_of_flags"),
    ),
    Mutant(
        "a small table that was copied is another", "and (is_all or not self.twins):", "and is_all:", ("test_cursor_file.py", "small_table"),
    ),
    Mutant(
        "one time that all rows have is proof", "is_timed = len({look.time for look in self.looks}) > 1 or len(self.looks) == 1", "is_timed = True",
        ("test_cursor_file.py", "one_time_that"),
    ),
    Mutant(
        "a part of one row is divided for ever", "while count > 1 and (size :=",
        "while (size :=", ("test_cursor.py", "each_larger or larger_than_wanted"),
    ),
    Mutant(
        "a look settles other streams' doubts", "if not job.is_looking:", "if True:", ("test_streams.py", "commit_in_doubt_is_settled"),
    ),
    Mutant(
        "columns are looked at before a commit", "        self.look()\n", "", ("test_warehouse.py", "made_anew_amid"),
    ),
    Mutant(
        "columns are asked for in each cycle", "        self._columns = None  # A next", "        # A next",
        ("test_warehouse.py", "made_anew_amid"),
    ),
    Mutant(
        "a cluster's statement is never taken as bounded", 'or intent.get("timeout") == 0', "or False",
        ("test_warehouse.py", "cluster_leaves"),
    ),
    Mutant(
        "a place by time says so in a batch id", 'return f"t{position[\'latest\'] // 1000}"', 'return f"{position[\'latest\']}"',
        ("test_warehouse.py", "never_taken_for_a_rowid"),
    ),
    Mutant(
        "the size of a part is looked at", "if not self.reader.is_large:\n            return rows",
        "if True:\n            return rows",
        ("test_cursor.py", "much_larger_than_wanted and rowid"),
    ),
    Mutant(
        "rows behind a part that is cut are passed over", "first = [*pages, page], end + 1", "first = [*pages, page], high + 1",
        ("test_cursor.py", "however_far_apart"),
    ),
    Mutant(
        "a part that is cut is followed by the next one", "if end < high:", "if False:", ("test_cursor.py", "however_far_apart"),
    ),
    Mutant(
        "ends are foreseen however few rows were found", "span / count if 2 * count >= parts * self.page_rows else None",
        "span / max(1, count)", ("test_cursor.py", "however_far_apart"),
    ),
    Mutant(
        "where a cycle saw a table end is forgotten", "if is_empty or found.ended is None or found.columns != state.columns:", "if True:", ("test_cursor_file.py", "saw_the_newest_ones_gone"),
    ),
    Mutant(
        "rows that are put back behind a seen end are new", "if is_back or is_open or is_there.get(True) else seen", "if is_open else seen",
        ("test_cursor_file.py", "saw_gone_are_known"),
    ),
    Mutant(
        "new rows in places of deleted ones make all others new", "is_most |= is_cut_off and", "is_most |= False and",
        ("test_cursor_file.py", "took_the_places_of_the_newest"),
    ),
    Mutant(
        "values that come back tell nothing where the newest rows are gone", "kept_values(self.looks) > max(2, len(self.looks) // 2) or", "False or",
        ("test_cursor_file.py", "also_where_the_newest"),
    ),
    Mutant(
        "a data frame's index tells rows apart", "if pair[1] not in own]", "]", ("test_cursor_file.py", "data_frame"),
    ),
    Mutant(
        "rows that are left at a seen end are no anchors", "thinned(self.here.anchors(first, last), state.anchors if state.columns == parts else [])",
        "state.anchors", ("test_cursor_file.py", "whatever_comes_besides"),
    ),
    Mutant(
        "a copy after a seen end is new", "is_back = first is not None and len(times) > 1 and", "is_back = False and",
        ("test_cursor_file.py", "copy_that_is_put_back"),
    ),
    Mutant(
        "a seen end outlasts a time to start from", "position=position, ended=None,", "position=position,", ("test_cursor_file.py", "more_than_a_seen_end"),
    ),
    Mutant(
        "one row of the same time is a table that came back", "max(2, len(self.looks) // 2) or (", "len(self.looks) // 2 or (",
        ("test_cursor_file.py", "same_moment_at_each_start"),
    ),
    Mutant(
        "rows that all got later times are new", "is_other = not is_retimed and", "is_other =", ("test_cursor_file.py", "another_value_is_edited_besides"),
    ),
    Mutant(
        "a commit in doubt is forgotten where rows are read otherwise", "is_anew=not state.intent", "is_anew=True", ("test_actions.py", "since_begins_anew"),
    ),
    Mutant(
        "rows that may have come anew are passed over in silence", "self.is_rewritten |= self.table.time is None and", "self.is_rewritten |= False and",
        ("test_cursor_file.py", "all_have_other_values"),
    ),
    Mutant(
        "a table that was made anew is a ring", "if found.epoch == state.epoch:", "if True:", ("test_cursor_file.py", "not_taken_for_one_that_is_rewritten"),
    ),
    Mutant(
        "our group is the producer's", "(stat.st_mode & 0o020 and stat.st_gid == group)", "stat.st_mode & 0o020", ("test_source.py", "side_file_of_ours"),
    ),
    Mutant(
        "two files are read as one", "if fingerprint(self.file)[0] != self._inode:", "if False:", ("test_source.py", "between_two_openings"),
    ),
    Mutant(
        "a machine without threads ends a service", "except RuntimeError as error:\n        hint = \"Raise the limit", "except ZeroDivisionError as error:\n        hint = \"Raise the limit",
        ("test_source.py", "no_thread_can_begin"),
    ),
    Mutant(
        "the size of a page by time is looked at", "is_large if is_indexed else None", "False",
        ("test_cursor.py", "much_larger_than_wanted and by_time or view"),
    ),
    Mutant(
        "large rows by time without an index are not looked for", "if is_looked_at is None:", "if False:",
        ("test_cursor.py", "much_larger_than_wanted and without"),
    ),
    Mutant(
        "a page shrinks where memory is short", "except (CorruptError, MemoryShortError):",
        "except CorruptError:", ("test_cursor.py", "memory_has_no_room"),
    ),
    Mutant(
        "a page shrinks where another one is damaged", "except (CorruptError, MemoryShortError):",
        "except MemoryShortError:", ("test_cycle.py", "corrupt_page"),
    ),
    Mutant(
        "by time rows before a damaged page wait with it", "        except CorruptError as error:\n            return error\n",
        "        finally:\n            pass\n", ("test_cycle.py", "corrupt_page"),
    ),
    Mutant(
        "a recovered state is asked what it belongs to",
        'refuse_foreign(job, source, state, f"what {job.target.name} knows of', 'str(f"what {job.target.name} knows of',
        ("test_actions.py", "read_otherwise_since"),
    ),
    Mutant(
        "a replay of nothing is no commit", 'commits=int(intent.get("rows") != 0)', "commits=1",
        ("test_actions.py", "replay_of_nothing"),
    ),
    Mutant(
        "hashes do not depend on a guess", 'sampled |= dict.fromkeys(numbers, "string")', "pass",
        ("test_plan.py", "one_hash_also"),
    ),
    Mutant(
        "groups of other rules stay", "elif others := sorted(row.keys() - writes.keys()):", "elif others := []:",
        ("test_scenarios.py", "hold_no_other_windows_back"),
    ),
    Mutant(
        "where nothing goes, small rows are at fault", "if total.commits or not is_alone", "if True or not is_alone",
        ("test_ladder.py", "before_which_nothing_goes"),
    ),
    Mutant(
        "a small request is refused for all its rows", "is_alone = intent[\"size\"] == 1 and", "is_alone =",
        ("test_ladder.py", "content_a_firewall"),
    ),
    Mutant(
        "what the disk refuses one stream ends all", "with file_errors():\n                if name and stream",
        "if True:\n                if name and stream", ("test_streams.py", "the_disk_refuses"),
    ),
    Mutant(
        "an equal time tells a row whose rowid may be used again", "look.is_like or self.counts_on or not self.is_shrunk",
        "True", ("test_cursor_file.py", "fewer_rows_of"),
    ),
    Mutant(
        "a rebuild keeps the order of rows", "self._refuse_behind(state, run[index:], place)", "pass",
        ("test_cursor_file.py", "rebuilt_in_another_order"),
    ),
    Mutant(
        "that a table was empty is forgotten", "is_other = is_gone and is_emptied", "is_other = False",
        ("test_cursor_file.py", "saw_the_table_empty"),
    ),
    Mutant(
        "a highest row without an anchor is a delivered one", "replaced = [evidence.highest]", "pass",
        ("test_cursor_file.py", "where_no_anchor_is"),
    ),
    Mutant(
        "a cycle without new rows keeps nothing", "if (state.committed or found.anchors) and found != state:", "if False:",
        ("test_cursor_file.py", "without_new_rows_learned or saw_the_table_empty"),
    ),
    Mutant(
        "a longer lookback looks back from the start", 'position.get("known", NEVER - self.lookback)',
        "NEVER - self.lookback", ("test_cursor_time.py", "longer_lookback"),
    ),
    Mutant(
        "times may be read otherwise than before", 'yield "times read as", str(state.time_form), form.line()', "pass",
        ("test_cursor_time.py", "read_otherwise"),
    ),
    Mutant(
        "times alone tell rows of which some were deleted", "if count > len(here) and not (bridge.content or bridge.key):",
        "if False:", ("test_cursor_time.py", "times_of_deleted"),
    ),
    Mutant(
        "a key of another class is another row's", "return None if is_open and times.intersection(now) else found",
        "return found",
        ("test_cursor_time.py", "another_class"),
    ),
    Mutant(
        "anchors' times are of the column of now", "table = self.table._replace(time=time)",
        "table = self.table", ("test_cursor_file.py", "another_column_tells or later_ones_only"),
    ),
    Mutant(
        "a position by times goes by any column", "    if state.time_column in table.columns:\n        yield", "    if False:\n        yield",
        ("test_cursor_file.py", "none_by_those"),
    ),
    Mutant(
        "what is sent again counts from its first try",
        'again: Intent = {**intent, "started": self.now()}\n            save(again)  #',
        'again: Intent = {**intent, "started": self.now()}\n            #', ("test_zerobus.py", "sent_again_are_waited"),
    ),
    Mutant(
        "a producer that closes takes its side files away", "        while wal_mode:\n            try:\n                fcntl", "        while False:\n            try:\n                fcntl",
        ("test_source.py", "leaves_its_side_files"),
    ),
    Mutant(
        "a second connection makes side files for another file", "for connection in connections:  # Each", "for connection in connections[:1]:  # Each",
        ("test_source.py", "takes_the_place_of"),
    ),
    Mutant(
        "a producer that turned to a WAL meets side files of ours", 'if self._way == SHARED and (os.pread', 'if False and (os.pread',
        ("test_source.py", "turns_to_a_wal_between"),
    ),
    Mutant(
        "an empty file is opened", "        if not header:  #", "        if False:  #", ("test_source.py", "before_it_has_a_header"),
    ),
    Mutant(
        "what SQLite says of a file that was replaced is its fault", "                    self._refuse_another()\n", "                    pass\n",
        ("test_source.py", "amid_a_replacement"),
    ),
    Mutant(
        "a doubt about a file is waited for anew in each run", 'intent.get("again", intent["started"])', "self.now()",
        ("test_warehouse.py", "was_last_offered"),
    ),
    Mutant(
        "a file that is offered again is not waited for", 'intent.get("again", intent["started"])', 'intent["started"]',
        ("test_warehouse.py", "was_last_offered"),
    ),
    Mutant(
        "a file that stayed is forgotten", "                self._swept = False\n", "",
        ("test_warehouse.py", "removed_with_the_next"),
    ),
    Mutant(
        "a refused question makes batches smaller", "        with no_matter_of_size():\n            found =", "        if True:\n            found =",
        ("test_ladder.py", "no_matter_of_rows"),
    ),
    Mutant(
        "a doubt is left where another cursor begins", "is_anew=not state.intent", "is_anew=True",
        ("test_actions.py", "since_begins_anew"),
    ),
    Mutant(
        "a mapper's time is that of the last edit", 're.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(): name', "name: name",
        ("test_first_contact.py", "mapper_that_are_edited"),
    ),
    Mutant(
        "a rebuild leaves the counter alone", "evidence.changes > 0 or self.here.is_later", "self.here.is_later",
        ("test_cursor_file.py", "take_the_places"),
    ),
    # --- State ---
    Mutant("no fsync of the state", "opened.flush()\n        os.fsync(descriptor)", "opened.flush()", (STATE, "on_the_disk")),
    Mutant(
        "no fsync of its directory", "os.replace(temporary, file)\n    sync_directory(file.parent)",
        "os.replace(temporary, file)", (STATE, "on_the_disk"),
    ),
    Mutant(
        "the state is written in place", "temporary = file.with_name(f\"{file.name}.tmp\")", "temporary = file",
        (STATE, "amid_the_saving"),
    ),
    Mutant(
        "no checksum", 'document.get("checksum") != checksum(document)', "False", (STATE, "every_changed_byte"),
    ),
    Mutant("no lock", "fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", (STATE, "second_uploader")),
    Mutant(
        "no intent before a commit", "        self.job.states.save(dataclasses.replace(self.state, intent=intent))\n", "",
        (SENDING, "a_kill_at_any_step and insert"),
    ),
    Mutant(
        "no confirmation after a commit", "self._confirm(intent, tally)\n        self.total.add(tally)",
        "self.state = confirmed(self.state, intent, tally)\n        self.total.add(tally)", (SENDING, "batch_ids_name"),
    ),
    Mutant(
        "bad rows are not kept",
        "yield prepared.rows\n        self.job.quarantine.put(intent[\"sequence\"], known_by(self), bad)",
        "yield prepared.rows", (STATE, "bad_rows_are_kept"),
    ),
    # --- Rows ---
    Mutant("any text is Arrow's", "not all(forms) or goes_over_59(lines, shape)", "False", ("test_rows.py", "both_ways")),
    Mutant("minutes over 59 are Arrow's", " or goes_over_59(lines, shape)", "", ("test_rows.py", "both_ways")),
    Mutant(
        "Arrow knows the zones", "    if is_local != {True}:\n        return None if True in is_local else times\n",
        '    if True:\n        return data.cast(arrow_type("timestamp").timestamp("us", tz=form.zone.key)).cast(arrow_type("timestamp"))\n',
        ("test_rows.py", "clocks_say"),
    ),
    Mutant(
        "Python reads the numbers", 'if isinstance(value, bytes) or (isinstance(value, str) and not NUMBER_TEXT.fullmatch(value)):\n'
        '        raise ValueError("is no number")\n    return', "if isinstance(value, bytes):\n        raise ValueError\n    return",
        ("test_rows.py", "number_as or python_takes"),
    ),
    Mutant(
        "a half of the day is any word", '"(?P<zone>[A-Z]{3,5}|', '"(?P<zone>[A-Za-z]{2,}|',
        ("test_first_contact.py", "half_of_the_day"),
    ),
    Mutant(
        "rows wait for columns that are not sent", "for name, kind in reads.items() if name in needed}",
        "for name, kind in reads.items() if needed}", ("test_plan.py", "set_aside_for"),
    ),
    Mutant("the target's type decides what is hashed", "(name not in disguised and aimed(name))", "aimed(name)", ("test_scenarios.py", "disguised_alike")),
    Mutant("a time in another spelling is another time", "moment == time_of(time, self.form))", "moment != time_of(time, self.form))", ("test_cursor_file.py", "another_spelling")),
    Mutant("names that differ by case are one", "for name in known} | {name: name for name in known}", "for name in known}", ("test_processing.py", "case_alone")),
    Mutant("a warning tells hidden times", '"a time that is private" if table.time in table.private', '"a time that is private" if False', ("test_cursor_time.py", "rules_hide")),
    Mutant("an odd time is told though it is hidden", "is_private = name in plan.table.private", "is_private = False", ("test_cursor_time.py", "rules_hide")),
    Mutant("decimals get zeros that don't fit", "digits = min(digits, sizes_of(kind)[1])", "digits = digits", ("test_processing.py", "digits_than")),
    Mutant("a DDL has a column twice", "{earlier(column) or column: kind", "{column: kind", ("test_streams.py", "column_twice")),
    Mutant("a view's texts are BLOBs", 'None if is_view and declared == "BLOB" else declared_type', "declared_type", ("test_cursor_time.py", "in_a_view_too")),
    Mutant("what a killed run set aside is not told", "lines_of(new or kept)", "lines_of(new)", ("test_cycle.py", "killed_run_set")),
    Mutant("hidden values leave digests", "{*self.columns} - self.private | {self.time", "{*self.columns} | {self.time", ("test_scenarios.py", "no_digest")),
    Mutant("bad rows of a refused window are lost", "bad += prepared.bad\n            for number", "for number", ("test_scenarios.py", "set_aside_alone")),
    Mutant("formats that read and do not write", "            if is_joined:\n", "            if False:\n", ("test_rows.py", "worse_than_none")),
    Mutant("rules forget their types", "early_rules(job, reader, state.reads)", "early_rules(job, reader, {})", ("test_plan.py", "of_another_class")),
    Mutant(
        "a status tells hidden keys and times", "if names & private]\n", "if False]\n",
        ("test_watching.py", "status_table_has_no_value"),
    ),
    Mutant(
        "a status tells what may be hidden", '["newest", "position"] if f.scenario == "sanitize" else []', "[]",
        ("test_watching.py", "status_table_has_no_value"),
    ),
    Mutant(
        "an example shows what is hidden by now", "for name, value in row.items() if name not in private}",
        "for name, value in row.items()}", ("test_actions.py", "by_now"),
    ),
    Mutant("a fraction changes hashes", "in INTEGER_BITS and not is_disguised else", "in INTEGER_BITS else", ("test_plan.py", "fraction_changes_no_hash")),
    Mutant("a bad value changes a type", "if name in before\n", "if False\n", ("test_plan.py", "small_table")),
    Mutant("any name of a zone is right at any time", "if name in (local.tzname(), zone.key)]:", "if True]:", ("test_rows.py", "clocks_are_called")),
    # --- Source and cursor ---
    Mutant(
        "columns without the alias", 'return f"q.{quoted(column)} COLLATE BINARY"',
        'return f"{quoted(column)} COLLATE BINARY"', (SOURCE, "renamed_amid"),
    ),
    Mutant(
        "columns are compared by their own collations", 'return f"q.{quoted(column)} COLLATE BINARY"',
        'return f"q.{quoted(column)}"', ("test_source.py", "collation_of_another"),
    ),
    Mutant(
        "columns that can't be computed are read", "if column not in uncomputable}", "if True}",
        ("test_source.py", "can_not_be_computed"),
    ),
    Mutant("links are not followed", "self.file = real_file(self.file)", "pass", ("test_source.py", "behind_a_link")),
    Mutant("parts of a page are of other rows", "if any(page.keys != pages[0].keys for page in pages):", "if False:", (
        "test_source.py", "read_in_parts",
    )),
    Mutant("other names of a file are not thought of", "if (names := file.stat().st_nlink) > 1:", "if (names := 0):", ("test_source.py", "two_names")),
    Mutant(
        "a copy is used though the WAL was begun anew",
        "if len(before[-1]) == 32 and wal_generation(self.file) == before:", "if True:",
        ("test_source.py", "amid_a_copy"),
    ),
    Mutant(
        "the WAL is copied before its database", "for file, copied in files.items():",
        "for file, copied in reversed(files.items()):", ("test_source.py", "beside_a_checkpoint"),
    ),
    Mutant(
        "a WAL that is locked for good is not copied", "                if not self.wal_mode:\n                    raise\n", "                raise\n",
        (SOURCE, "keeps_its_index"),
    ),
    Mutant(
        "texts of UTF-16 are left to SQLite", 'kept, others = (PLAIN, "told") if self.table.encoding == "UTF-8" else',
        'kept, others = (PLAIN, "told") if True else', ("test_source.py", "any_bytes"),
    ),
    Mutant(
        "a closed WAL database is opened like any other",
        "if not wal_mode or (wal.exists() and shm.exists()):", "if True:", (SOURCE, "another_user or closed_wal"),
    ),
    Mutant(
        "a file that came to life is read on", "bool(self._unchanging and self._unchanging != fingerprint(self.file))",
        "False", ("test_source.py", "comes_to_life"),
    ),
    Mutant(
        "a producer that comes and goes ends a cycle", "if not (isinstance(error, UnrecoveredError) or self._is_stale()):", "if True:",
        ("test_source.py", "comes_just_then"),
    ),
    Mutant(
        "a file that is opened just then can't be read", "if tries == self.TRIES or not (is_passing or way", "if True or (way", ("test_source.py", "moment_of_opening"),
    ),
    Mutant(
        "what can't be opened is tried for long", "if tries == self.TRIES or not (is_passing or way_to_open(self.file, self.wal_mode) != self._way):", "if tries == self.TRIES:", ("test_source.py", "moment_of_opening"),
    ),
    Mutant(
        "a file that was written just now is believed", "if all(time.time_ns() - changed > 3 * 10**9 for", "if all(True for",
        ("test_watching.py", "written_just_now"),
    ),
    Mutant(
        "windows wait for somebody to write", 'all(job.scenario != "aggregate" for job in fleet.jobs.values())', "True",
        ("test_watching.py", "windows_close_also"),
    ),
    Mutant(
        "a file is believed for good", "and began - self.looked < self.MOST_QUIET", "", ("test_watching.py", "once_a_minute"),
    ),
    Mutant(
        "a cycle with rows is a quiet one", "(has_all and not any(spoke.values()))", "has_all", ("test_watching.py", "nobody_writes_is_not_opened"),
    ),
    Mutant(
        "a quarantine is read in each cycle", "@functools.lru_cache(10_000)\ndef rows_in", "def rows_in", ("test_state.py", "counted_once"),
    ),
    Mutant(
        "rows of pages that changed places are taken", "raise out_of_order(self.reader.table.name, first)", "pass",
        ("test_faults_source.py", "each_others_place"),
    ),
    Mutant(
        "a set of groups goes on among other rows", """            refuse_part(state)
            as_moved""", "            as_moved", ("test_scenarios.py", "renumbered_amid_a_set"),
    ),
    Mutant(
        "a renumbering beside a change of columns is forgotten", "(len(shared) > 1 or found.columns == state.columns)",
        "found.columns == state.columns", ("test_cursor_file.py", "beside_a_change_of_columns"),
    ),
    Mutant(
        "a table without an index is scanned for each small page", "PAGE_ROWS if is_indexed else SCANNED_ROWS", "PAGE_ROWS",
        ("test_cursor_time.py", "few_scans"),
    ),
    Mutant(
        "half of a checkpoint is damage to one who opens", "is_passing = isinstance(error, UnrecoveredError) or self._is_stale()",
        "is_passing = isinstance(error, UnrecoveredError)", ("test_source.py", "moment_of_opening"),
    ),
    Mutant(
        "a file that was written in this tick is unchanging", "if self._unchanging and is_fresh(self.file):", "if False:",
        ("test_source.py", "written_in_this_tick"),
    ),
    Mutant(
        "a closed database is opened again", "if self._end():\n                    self._open()", "self._end()\n                if True:\n                    self._open()",
        ("test_source.py", "after_the_end_of_a_cycle"),
    ),
    Mutant(
        "a database mounted alone is read", "if wal_mode and str(file) in mount_points():", "if False:",
        (SOURCE, "without_its_directory"),
    ),
    Mutant(
        "anchors are not looked at", "if not (is_known and newest and", "if False and not (is_known and newest and",
        ("test_cursor.py", "recreated"),
    ),
    Mutant(
        "anchors whose rows are gone mark nothing", "[*(kept | {row.rowid: row for row in rows}).values()]", "rows",
        ("test_cursor_file.py", "first_rows_were_deleted"),
    ),
    Mutant(
        "rowids are trusted after VACUUM",
        "if is_told and not self.here.table.key", "if False and not self.here.table.key",
        ("test_cursor.py", "vacuum"),
    ),
    Mutant(
        "values are joined without a separator", "f\"concat_ws(',', {", "f\"concat_ws('', {",
        ("test_cursor_file.py", "different_rows"),
    ),
    Mutant(
        "contents end at a NUL", "THEN {coded} ELSE", "THEN quote({value}) ELSE", ("test_cursor_file.py", "different_rows"),
    ),
    Mutant(
        "all columns of old have to be there", "bool(pairs) and len(alike) == len(pairs)",
        "len(alike) == len(state.columns)", ("test_cursor_file.py", "altered_or_edited"),
    ),
    Mutant(
        "another file passes for the same", "is_same_file = origin.file == state.origin.file if state.origin else None",
        "is_same_file=True", ("test_cursor_file.py", "made_anew"),
    ),
    Mutant(
        "the same file passes for another", "is_same_file = origin.file == state.origin.file if state.origin else None",
        "is_same_file=False", ("test_cursor_file.py", "altered_or_edited"),
    ),
    Mutant(
        "AUTOINCREMENT proves nothing", "if self.changes == 0 and self.counts_on and not self.is_later:", "if False:",
        ("test_cursor_file.py", "altered_or_edited"),
    ),
    Mutant(
        "the highest rowid is one like others", "if first is None and low == HIGHEST_ROWID:", "if False:",
        ("test_cursor_file.py", "highest_possible"),
    ),
    Mutant(
        "a doubt is settled by the rowids of before",
        "after = source.cursor.located(confirmed(state, intent, Tally()))",
        "after = confirmed(state, intent, Tally())", (SENDING, "vacuum_between and insert"),
    ),
    Mutant(
        "equal rows are not counted", "            left[told] -= 1\n            counted -= 1\n", "            pass\n",
        ("test_cursor.py", "equal_rows_of_a_view"),
    ),
    Mutant(
        "a server's other words for types are none", "type_told(re.sub", "str(re.sub",
        ("test_warehouse.py", "whatever_word"),
    ),
    Mutant(
        "a zero is changed as another zero", "if any(isinstance(value, float | decimal.Decimal) for value in values):", "if False:",
        ("test_processing.py", "repeats_no_other_zero"),
    ),
    Mutant(
        "lateness is not looked at", 'if moment is not None and moment < under_way["oldest"]:', "if False:",
        (TIMES, "mix_of_times"),
    ),
    Mutant(
        "a pass moves the latest time before its end", "walk.position = after if walk.next else self._ended(after)",
        "walk.position = self._ended(after)", (TIMES, "mix_of_times"),
    ),
    Mutant(
        "a limit counts as a number", 'f"{head}0!", "") for head', 'f"{head}0", "") for head', (TIMES, "no_date_is_found"),
    ),
    Mutant(
        "the places that are searched overlap", 'f"{head - 1}:" if head > 10 else ""', '""',
        (TIMES, "no_date_is_found"),
    ),
    Mutant(
        "a number as a limit is none for texts in a view", "if high is None and self.is_united and", "if False and",
        (TIMES, "view_of_parts"),
    ),
    Mutant(
        "what is beyond a limit counts twice", " if first <= index < end]", "]",
        (TIMES, "sorts_among"),
    ),
    Mutant(
        "rows that came in behind a pass are forgotten", "newest if until is None else min(newest, until))", "newest)", (TIMES, "behind_its_place"),
    ),
    Mutant(
        "records are not made anew", "if position | self.made_of == position:", 'if "columns" in position:', (TIMES, "change_of_columns"),
    ),
    Mutant(
        "untouched rows don't count first", "here, count = sorted(rows), delivered", "here, count = sorted(rows, reverse=True), delivered",
        (TIMES, "fill_a_new_column"),
    ),
    Mutant(
        "what can't be told is guessed", "if row[0] == is_touched}) > 1:", "if row[0] == is_touched}) > 99:",
        (TIMES, "no_key_tells"),
    ),
    Mutant(
        "large rows are made into text again and again", "if rows > 1 and size > most:", "if False:",
        ("test_warehouse.py", "behind_small_ones"),
    ),
    Mutant("any number of rows from the future", "if future > most_future:", "if False:", (TIMES, "future_are_bounded")),
    Mutant("any clock is believed", "if job.now() >= CLOCK_BEGAN:", "if True:", (TIMES, "never_set")),
    Mutant(
        "an intent holds all rows in sight", '{**after, "seen": {"less": packed(old - new), "more": packed(new - old)}}',
        "dict(after)", (TIMES, "intent_holds"),
    ),
    Mutant(
        "a batch is a span of rowids", "self.reader.nth(first, last, size())", "min(last, first - 1 + size())",
        ("test_cursor_file.py", "rows_and_not_a_span"),
    ),
    Mutant(
        "a file that comes back is a new one", "claims = [*map(Claim, state.formers), *(", "claims = [*(",
        ("test_cursor_file.py", "comes_back_after"),
    ),
    Mutant(
        "rows of a clock that begins anew are those of before", "        if self.is_begun_anew:\n            return []\n", "",
        ("test_cursor_file.py", "clock_that_begins_anew_are_new"),
    ),
    Mutant(
        "a file of a clock that begins anew is asked about", "or not (self.is_shrunk or self.is_begun_anew)", "or not self.is_shrunk",
        ("test_cursor_file.py", "clock_that_begins_anew_are_new"),
    ),
    Mutant(
        "a ring that went round is no ring", "is_falling or is_turned or", "is_falling or", ("test_cursor_file.py", "ring_of_slots_that_went"),
    ),
    Mutant(
        "a clock that was set back makes a ring", "return 0 <= first - last <= 4 * (max", "return 0 <= first - last < math.inf * (max", ("test_cursor_file.py", "makes_no_ring"),
    ),
    Mutant(
        "a ring that goes round was emptied", "if self.is_rewritten and not self.is_trusted and is_ring(self.reader, self.form):", "if False:",
        ("test_cursor_file.py", "goes_round_later"),
    ),
    Mutant(
        "one former alone is kept in mind", "MOST_FORMERS = 8", "MOST_FORMERS = 1", ("test_cursor_file.py", "ring_of_files"),
    ),
    Mutant(
        "a table that was renamed is a new one", "*(self.claims() if state.origin != self.origin else ())]", "]",
        ("test_streams.py", "renamed_is_no_new"),
    ),
    Mutant(
        "a table with other columns is one that was renamed", "not {*state.columns} <= {*self.here.parts}", "False",
        ("test_streams.py", "but_like"),
    ),
    Mutant(
        "anchors beyond the rows that are left hide a table", "left = sum((first or 0) <= anchor.rowid <= highest for anchor in state.anchors)", "left = len(state.anchors)",
        ("test_cursor_file.py", "put_back_after_another"),
    ),
    Mutant(
        "rowids of before a VACUUM are further", "default=0) if self.moved is None else self.moved", "default=0) if self.moved is None else read_to(self.state.position) or 0",
        ("test_streams.py", "where_it_is_furthest"),
    ),
    Mutant(
        "rows that gave way to others are further", "for look in self.evidence.looks if look.is_whole or look.is_on_time]", "for look in self.evidence.looks]",
        ("test_streams.py", "gave_way_to_others"),
    ),
    Mutant(
        "an altered table is a new one under another name", "is_told and (not is_cut or 2 * kept", "is_told and (not is_cut or 0 * kept",
        ("test_streams.py", "was_altered_and"),
    ),
    Mutant(
        "a copy takes the place of its table", "if each.is_sure and self.elsewhere(each.state) is None and", "if each.is_sure and",
        ("test_streams.py", "a_copy_of"),
    ),
    Mutant(
        "windows of one table close those of another", "each is known or each.claim.table != \"\"", "False",
        ("test_streams.py", "change_them_back"),
    ),
    Mutant(
        "rows that are read again have several anchors", "for anchor in reversed([*new, *old])}.values()][::-1]", "for anchor in reversed([*new, *old])}.values()][::-1] and [*new, *old]",
        ("test_streams.py", "open_windows_of"),
    ),
    Mutant(
        "that rows were renumbered is forgotten", "is_there = newest == before != [] and", "is_there = False and", ("test_streams.py", "vacuumed_and_renamed"),
    ),
    Mutant(
        "flags that agree by chance are values that came back", " and several[name] >= min(3, len(looks))}", "}",
        ("test_cursor_file.py", "few_values"),
    ),
    Mutant(
        "what rotation moved is asked about", "kept is None and (evidence.is_retimed or not is_renamed(", "kept is None and (True or is_renamed(",
        ("test_streams.py", "needed_under"),
    ),
    Mutant(
        "places of before keep digests of what is hidden", "[without(place, self.table.private) for place in state.formers]", "state.formers",
        ("test_streams.py", "no_digest_of"),
    ),
    Mutant(
        "a doubt that was settled for another stream stays one", "states.save(confirmed(other, intent, Tally(commits=1)) if is_there else known)", "pass",
        ("test_streams.py", "in_doubt_when"),
    ),
    Mutant(
        "rows of a commit that was never sent come along", "left.quarantine.forget_after(state.sequence)", "pass",
        ("test_streams.py", "in_doubt_when"),
    ),
    Mutant(
        "several tables know no table of the single form", "[own.parent / STATE_NAME]", "[]",
        ("test_streams.py", "becomes_one_of_several"),
    ),
    Mutant(
        "the single form knows no stream that was renamed", "(job.stream or is_first)", "job.stream",
        ("test_streams.py", "becomes_one_of_several"),
    ),
    Mutant(
        "a state of the single form is adopted at the start alone", "adopt(directory, known, is_first)",
        "is_first and adopt(directory, known, True)", ("test_streams.py", "table_comes_later"),
    ),
    Mutant(
        "a state that was lost comes again with its numbers", "if base + end not in job.source_ids",
        "", ("test_streams.py", "stream_whose_state_was_lost"),
    ),
    Mutant(
        "a view that can't be read waits for its table", r'no such table: main\.|no such column: (?!q\.)|', "",
        ("test_source.py", "named_as_what_it_is"),
    ),
    Mutant(
        "what was altered amid a cycle can't be computed", 'step query: no such table|no such column: q',
        "step query: no such nothing", ("test_source.py", "altered_while_it_is_read"),
    ),
    Mutant(
        "a column goes unnoticed while a table is described", " <= {name for name, *_ in self.infos}:",
        ":", ("test_cursor_time.py", "goes_while_a_table_is_described"),
    ),
    Mutant(
        "the state of an only table that was lost comes again with its numbers", "if base + end not in",
        "if f\"{base}/{job.stream}\" not in", ("test_streams.py", "only_table_whose_state_was_lost"),
    ),
    Mutant(
        "a table that two patterns fit takes the settings of the last", "if name and stream.tables:",
        "if False:", ("test_streams.py", "two_patterns_fit"),
    ),
    Mutant(
        "a stream of another table is chosen", "for called in (tables, {name: name for name in streams}):",
        "for called in ({name: name for name in streams}, tables):", ("test_streams.py", "a_word_chooses"),
    ),
    Mutant(
        "another case is chosen", "for spelled in (str, str.lower):",
        "for spelled in (str.lower,):", ("test_streams.py", "a_word_chooses"),
    ),
    Mutant(
        "what is no base64 is a blob", "base64.b64decode(text, validate=True)",
        "base64.b64decode(text)", ("test_actions.py", "no_value_of_sqlite"),
    ),
    Mutant(
        "a quarantine is left behind", "bring_along(states, streams)",
        "pass", ("test_streams.py", "comes_along"),
    ),
    Mutant(
        "files that come along are those of batches that were never sent", "place.save(dataclasses.replace(own, sequence=own.sequence + len(files)))",
        "pass", ("test_streams.py", "comes_along"),
    ),
    Mutant(
        "what another stream set aside is safe to delete", "waiting_and_delivered(config, state, [*lines, *needed])",
        "waiting_and_delivered(config, state, lines)", ("test_streams.py", "other_name"),
    ),
    Mutant(
        "a row that is written while it is read holds up all", "if others and others == found[1:]", "if False and others == found[1:]",
        ("test_cursor_file.py", "up_to_date"),
    ),
    Mutant(
        "a word in a comment makes rowids unique", 'QUOTED_SQL.sub(" ", sql)', "sql",
        ("test_source.py", "keys_and_rowids"),
    ),
    Mutant(
        "a default that is a word is an expression", "({default_in_sql(given[column])})", "({given[column]})",
        ("test_cursor_time.py", "a_default_is"),
    ),
    Mutant(
        "windows of another length are those that were sent", "self.late += int((is_new & ~is_left).sum())",
        "is_left = is_left if self.closed is None else starts >= moment_of(self.closed)\n            pass",
        ("test_scenarios.py", "rules_that_change"),
    ),
    Mutant(
        "rows before a delivered one are passed over", "if place > newest.rowid:", "if place > 2**62:",
        ("test_cursor_file.py", "order_of_its_own"),
    ),
    Mutant(
        "metrics replace a database", 'not in (b"", b"# HELP")', 'in (b"?",)', ("test_watching.py", "is_something_else"),
    ),
    Mutant(
        "rows that are made otherwise settle a doubt", 'if intent.get("made_by", now) != now:', "if False:",
        ("test_faults_sending.py", "other_settings"),
    ),
    Mutant(
        "a cleaned history proves a commit", "or (not saved and (is_new or delivered > number))", "",
        ("test_faults_state.py", "history_that_was_cleaned"),
    ),
    Mutant(
        "rows that look like earlier ones are these", "return is_most and is_told and", "return is_most and", ("test_cursor_file.py", "only_look_like"),
    ),
    Mutant(
        "a recovered state forgets the quarantine", "sequence=max(first.sequence, state.sequence)", "sequence=state.sequence",
        ("test_faults_state.py", "keeps_the_quarantine"),
    ),
    Mutant(
        "a table that looks like an earlier one is that one", "(each for each in files if is_new_name or is_one_name(each.parent.name, own.name))", "files",
        ("test_streams.py", "begins_like_one_before"),
    ),
    Mutant(
        "a commit in doubt is forgotten with its table's name", "if other.intent and other.intent[\"anchors\"] and \"replayed\" not in other.intent:", "if False:", ("test_streams.py", "commit_in_doubt_is_settled"),
    ),
    Mutant(
        "only a table with rows of its own may give way to the one before", "if not (is_known and newest and newest ==", "if state.anchors and not (is_known and newest ==",
        ("test_cursor_file.py", "nothing_of_the_other_one"),
    ),
    Mutant(
        "the last row that arrived is forgotten after a refusal", "self.newest = [*self.newest, *anchors[:1]]", "self.newest = anchors[:1]",
        ("test_cursor_file.py", "begins_anew_after_a_refusal"),
    ),
    Mutant(
        "rows that were ahead are due by the windows of before", 'position["ahead"]["due"] // length * length < due', 'position["ahead"]["due"] < due',
        ("test_scenarios.py", "was_ahead_is_part"),
    ),
    Mutant(
        "a statement has the time that is set now", "max(self.timeout, intent.get(\"timeout\", 0))", "self.timeout",
        ("test_warehouse.py", "as_it_was_given"),
    ),
    Mutant(
        "a row that was edited hides where the others went", "for edited in (0, 0.25))", "for edited in (0, 0))",
        ("test_cursor_file.py", "is_edited_while_others"),
    ),
    # --- The ladder ---
    Mutant(
        "a refused size is a lost answer", "is_large = status in (400, 413, 414, 431) or (writes and", "is_large = False and (writes and",
        ("test_ladder.py", "nothing_ran"),
    ),
    Mutant(
        "losses shrink nothing", "if not (self.state.lost or is_certain or is_asked)", "if not (is_certain or is_asked)",
        ("test_ladder.py", "reset_is_set_aside"),
    ),
    Mutant(
        "a small row that is disliked blocks for good", "is_often = lost in (2 * HALVINGS, 4 * HALVINGS) or lost % (8 * HALVINGS) == 0", "is_often = lost >= 2000",
        ("test_ladder.py", "ends_its_connection"),
    ),
    Mutant(
        "a line that is down empties the table into quarantine", "is_often = lost in (2 * HALVINGS, 4 * HALVINGS) or lost % (8 * HALVINGS) == 0", "is_often = lost > 3",
        ("test_ladder.py", "lets_no_row"),
    ),
    Mutant(
        "a store that went away with a commit took none", "if kind is (Unreachable if writes else RefusedValuesError):",
        "if kind is RefusedValuesError and not writes:", ("test_ladder.py", "before_a_store and sending"),
    ),
    Mutant(
        "a refused checkpoint means that nothing was committed", r"PUT \S*/part-[^/]* in .*(code: 413", r"(code: 413",
        ("test_ladder.py", "before_a_store"),
    ),
    Mutant(
        "a commit prepared ahead knows no earlier one", '"size": count(), "committed": self.state.committed}', '"size": count()}',
        ("test_faults_sending.py", "dropped_between"),
    ),
    Mutant(
        "columns that others changed are written to", "if not is_new and known.get(field.name) !=",
        "if False and known.get(field.name) !=", ("test_plan.py", "no_value_is_altered"),
    ),
    Mutant(
        "any expression is left to delta-rs", "if not is_plain(text, types):", "if False:",
        ("test_plan.py", "otherwise_than_spark"),
    ),
    Mutant(
        "statistics are rounded", 'columns[name] = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")',
        "pass", ("test_plan.py", "statistics_of_decimals"),
    ),
    Mutant(
        "the table's owner decides when files are deleted", "table.vacuum(kept_hours(table), dry_run",
        "table.vacuum(None, dry_run", ("test_actions.py", "stay_for_a_week"),
    ),
    Mutant(
        "negative fractions part a table", "value < 0 and value % 1):", "value is None):",
        ("test_plan.py", "negative_fraction"),
    ),
    Mutant(
        "an empty answer is a good one", "json.loads(whole_body(answer))", 'json.loads(whole_body(answer) or b"{}")',
        ("test_zerobus.py", "page_in_place"),
    ),
    Mutant(
        "small requests are given up", "or size < Allowance.LEAST:", "or False:", ("test_ladder.py", "never_given_up"),
    ),
    Mutant(
        "what was learned is forgotten", "self.state = dataclasses.replace(state, allowance=self.job.target.allowance)",
        "self.state = state", ("test_ladder.py", "is_remembered"),
    ),
    Mutant(
        "text in quotes counts as the server's word", "re.sub(r\"'[^']*('|$)\", \"\", message)", "message",
        ("test_ladder.py", "words_that_say"),
    ),
    Mutant(
        "a question that gets no answer is asked again as it was",
        "if has_rows and not isinstance(error, Unreachable) and", "if False and", ("test_ladder.py", "question_may_be_too_large"),
    ),
    Mutant(
        "what is refused whatever it holds is refused for its size", "if status and status[0] in str(self.fault_of_nothing(intent)):",
        "if False:", ("test_ladder.py", "whatever_it_holds"),
    ),
    Mutant(
        "what is refused for a while is tried as large again", 'if intent["bytes"] >= Allowance.LEAST:  # Or all', "if False:  # Or all",
        ("test_ladder.py", "whatever_it_holds"),
    ),
    Mutant(
        "an outage is a large row's fault", 'is_same and intent.get("others_go", False)', "True",
        ("test_ladder.py", "an_outage_sets"),
    ),
    Mutant(
        "refused values of a file in doubt block for good", "        except RefusedValuesError:\n            return False\n", "",
        (SENDING, "whose_rows_are_refused"),
    ),
    Mutant(
        "a file that never ends well blocks for good", "except (Rejected, RefusedSizeError, LostAnswer) as error:", "except StillWritten as error:",
        (SENDING, "becomes_smaller or leaves_it_to_its_rows"),
    ),
    Mutant(
        "an error that comes as a success is one", "answer.told is not None and not answer.said():", "answer.told is not None:",
        ("test_zerobus.py", "comes_as_a_success"),
    ),
    Mutant(
        "a refused question blocks for good", 'if config.on_doubt != "resend":\n            refused.hint', "if True:\n            refused.hint",
        (SENDING, "on_doubt_decides"),
    ),
    Mutant(
        "a refused handshake is a lost answer", "if re.search(NO_HANDSHAKE, str(reason)):", "if False:",
        ("test_ladder.py", "refused_handshake"),
    ),
    Mutant(
        "waits don't grow", "wait * 2.0 ** min(self.failures - 1, 30)", "wait",
        ("test_ladder.py", "waits_grow"),
    ),
    Mutant(
        "a refused stream wakes a warehouse in each cycle", "    if outage.error and now < outage.due and", "    if False and",
        ("test_watching.py", "needs_a_person"),
    ),
    Mutant(
        "an outage is said each cycle", "elif now - self.told >= 86_400:", "else:", ("test_ladder.py", "waits_grow"),
    ),
    Mutant(
        "a large row that doesn't go ends the run", "                self._set_aside(shipment.intent, refused)\n", "                raise refused\n",
        ("test_ladder.py", "one_row_that_is_too_large"),
    ),
    # --- Windows ---
    Mutant(
        "the future closes windows", "newest, soon = times[is_past].max(),", "newest, soon = times.max(),",
        ("test_scenarios.py", "takes_no_window"),
    ),
    Mutant(
        "the future holds the position", "is_ahead = is_left & (starts >= moment_of(limit))", "is_ahead = is_left & False",
        ("test_scenarios.py", "takes_no_window"),
    ),
    Mutant(
        "keys are always in order", "    if not is_shuffled(reader, time_form(config)):", "    if True:",
        ("test_cursor.py", "keys_in_no_order"),
    ),
    Mutant(
        "a state by rowid gives way", "if not is_unbound(state):", "if False:",
        ("test_cursor.py", "position_by_rowid_stops"),
    ),
    Mutant(
        "a row in its place was renumbered", "None if index and place == newest.rowid else place", "place",
        ("test_cursor_file.py", "altered_or_edited and newest and plain"),
    ),
    Mutant(
        "AUTOINCREMENT is always believed", "not evidence.counts_on or self._is_overtaken(state, evidence, kept or ())",
        "not evidence.counts_on", ("test_cursor_file.py", "grew_past"),
    ),
    Mutant(
        "an older copy of a table before has most rows", " or surprise(len(self.looks), len(whole), self.likeness) > 10", "",
        ("test_cursor_file.py", "put_back_after_another"),
    ),
    Mutant(
        "the first row of a table before tells nothing", "len(times) > 1 or is_first", "len(times) > 1",
        ("test_cursor_file.py", "put_back_after_another"),
    ),
    Mutant(
        "who looks does not ask for lost commits", "    if isinstance(job.target, DeltaTarget):\n        job.target.delivered(", "    if False:\n        job.target.delivered(",
        ("test_cycle.py", "lost_commits"),
    ),
    Mutant(
        "a file that SQLite does not open is a lack of memory", '"unable to open|failed to open"', '"unable to open"',
        ("test_source.py", "no_lack_of_memory"),
    ),
    Mutant(
        "one row that an older copy lacks is edited", "len(others) > few and", "len(others) > 1 and",
        ("test_cursor_file.py", "grew_past"),
    ),
    Mutant(
        "an edited row is an older copy", "len(others) > few and not any(look.is_but_time for look in others)", "bool(others)",
        ("test_cursor_file.py", "edited_under"),
    ),
    Mutant(
        "rows below delivered ones are not looked for", "return found != \"0\" and self.reader", "return False and self.reader",
        ("test_cursor.py", "where_there_were_none"),
    ),
    Mutant(
        "a gap is what there is now", "[*batch.gaps, *state.gaps]", "[*batch.gaps, [-(2**63), 3001]]",
        ("test_cursor.py", "put_back"),
    ),
    Mutant(
        "a table that was gone is not kept in mind", "states.save(dataclasses.replace(state, ended=ended))", "pass",
        ("test_streams.py", "cycle_saw_gone"),
    ),
    Mutant(
        "a file that was emptied in place may be back", "NOWHERE if is_there and tables is None else GONE", "GONE",
        ("test_streams.py", "cycle_saw_gone"),
    ),
    Mutant(
        "a question about a large row carries the row", "digested(sent) if sent.count == 1 and", "sent if sent.count == 1 and",
        ("test_warehouse.py", "compared_by_digests"),
    ),
    Mutant(
        "a file that was away counts as gone when it is back", "not (state.ended == GONE and state.origin == self.origin)",
        "True", ("test_streams.py", "is_back_edited"),
    ),
    Mutant(
        "a flush amid a window leaves out what came in since", "and windows.opened and not begun:", "and windows.opened:",
        ("test_scenarios.py", "amid_the_parts"),
    ),
    Mutant(
        "groups that went come again after their rows were deleted", 'position["closed"] = latest_time(position.get("closed"), part["end"])',
        "pass", ("test_scenarios.py", "amid_the_parts"),
    ),
    Mutant(
        "the future is forgotten", 'after["ahead"] = {**windows.ahead, "ranges"', 'windows.ahead = {**windows.ahead, "ranges"',
        ("test_scenarios.py", "takes_no_window or wait_for_their_time"),
    ),
    Mutant(
        "rows that come in amid a window are of its parts", "return position, first, min(last, read_to(position) or 0)",
        "return position, first, last", ("test_scenarios.py", "amid_the_parts or amid_a_window"),
    ),
    Mutant(
        "a part of a window is forgotten", 'return {**after, "part": part} if part else after', "return after",
        ("test_scenarios.py", "amid_the_parts or amid_a_window"),
    ),
    Mutant(
        "the last group of a part goes twice", 'some[ORDER] > part["upto"]', 'some[ORDER] >= part["upto"]',
        ("test_scenarios.py", "amid_the_parts"),
    ),
    Mutant(
        "renumbered rows make groups again", '"rowid": begin if is_open or is_new else rowid', '"rowid": begin',
        ("test_scenarios.py", "without_windows_vacuum"),
    ),
    Mutant(
        "groups that do not go together go one by one or not at all", "part = aggregate.part(windows.partials, end, size(),",
        "part = None if end else aggregate.part(windows.partials, end, size(),", ("test_ladder.py", "go_in_parts"),
    ),
    Mutant(
        "a clock that was never set is believed", "if job.now() >= CLOCK_BEGAN:", "if True:",
        ("test_scenarios.py", "never_set"),
    ),
    Mutant(
        "a table is clustered by a column without statistics", ">= CLUSTERED_COLUMNS", ">= 99",
        ("test_actions.py", "behind_many_columns"),
    ),
    # --- Streams ---
    Mutant(
        "tables that all went fail a run", "lambda: not is_first or were_there(self.config)", "lambda: not is_first",
        ("test_streams.py", "never_there"),
    ),
    Mutant(
        "a pattern that nothing ever fitted is no error", "lambda: not is_first or were_there(self.config)", "lambda: True",
        ("test_streams.py", "never_there"),
    ),
    Mutant(
        "closed streams stay closed", "os.open(os.devnull, os.O_RDWR)", "pass", ("test_command_line.py", "streams"),
    ),
    Mutant(
        "output is as strict as its encoding", 'stream.reconfigure(errors="backslashreplace")', "pass",
        ("test_command_line.py", "plain_locale"),
    ),
    Mutant("a cycle of the future is healthy", "return abs(age) <= patience", "return age <= patience", ("test_actions.py", "sign_of_health")),
    # --- Names ---
    Mutant("names are compared as SQLite does", "{folded(aimed(name)), aimed(name).lower()}",
        "{aimed(name)}", ("test_plan.py", "equal_for_the_target"),
    ),
    # --- Delta ---
    Mutant(
        "any table can be written", "if unknown := sorted(features_of(table) - WRITABLE_FEATURES):", "if unknown := []:",
        ("test_plan.py", "features_cannot_be_written"),
    ),
    Mutant(
        "tables that map names are merged", 'schema_mode="merge" if table and not is_whole else None,',
        'schema_mode="merge" if table else None,', ("test_plan.py", "maps_names"),
    ),
    Mutant(
        "no look at the transaction version", "if delivered < number:\n            return False",
        "if True:\n            return False", ("test_cycle.py", "kill_at_each_step"),
    ),
    Mutant(
        "no transaction in the commit", 'app_transactions=[Transaction(intent["application"], intent["sequence"], now // 1000)],', "",
        ("test_cycle.py", "kill_at_each_step"),
    ),
    Mutant(
        "another's commit is taken for ours",
        'is_other = saved and (saved["position"], saved["anchors"]) != (intent["position"], intent["anchors"])', "is_other = False",
        (STATE, "cloned_box or older_copy"),
    ),
    # --- Warehouse ---
    Mutant("the driver repeats", "_enable_v3_retries=False,", "_enable_v3_retries=True,", (SENDING, "carried_out_once and insert")),
    Mutant(
        "the driver repeats as it used to", "_retry_stop_after_attempts_count=1,", "_retry_stop_after_attempts_count=3,",
        (SENDING, "carried_out_once and insert"),
    ),
    Mutant(
        "503 means that nothing ran", "if status == 429 or (status == 503 and not writes) or", "if status in (429, 503) or",
        (SENDING, "carried_out_once and insert"),
    ),
    Mutant(
        "any error means that nothing ran", "is_open = writes and not DEFINITE & {state, state[:2]}", "is_open = writes and not state",
        (SENDING, "carried_out_once and insert"),
    ),
    Mutant(
        "a column that is missing is the rows' fault", '"DELTA_MISSING_NOT_NULL_COLUMN_VALUE": "42703", ', "",
        ("test_warehouse.py", "source_lacks"),
    ),
    Mutant(
        "a volume that can't be listed takes no file", "with contextlib.suppress(Rejected):  # What is wrong with the volume",
        "if True:  # What is wrong with the volume", ("test_warehouse.py", "cannot_be_listed"),
    ),
    Mutant(
        "a question about a statement is taken for it", "if writes and taken() and (", "if False and (",
        ("test_warehouse.py", "refuses_a_question or was_taken"),
    ),
    Mutant(
        "a table has any name in Databricks", "    if unfit := UNFIT_IN_CATALOGS.search(table):", "    if unfit := None:",
        ("test_warehouse.py", "can_have_is_told"),
    ),
    Mutant(
        "rows are set aside for their table", "status = 501 if answer.told and", "status = 501 if not answer.told and",
        ("test_zerobus.py", "does_not_take_rows_for"),
    ),
    Mutant(
        "a custom URL is not told the workspace", "        if not table:  # A custom URL", "        if False:  # A custom URL",
        ("test_zerobus.py", "custom_url"),
    ),
    Mutant(
        "an emptied volume can't be listed", '42K03|PATH_NOT_FOUND|(?i:director(y|ies))', "42K03|PATH_NOT_FOUND",
        ("test_warehouse.py", "volume_without_files"),
    ),
    Mutant(
        "lost statements are not waited for",
        "end = began + 2 * given + self.SLACK_SECONDS", "end = 0", (SENDING, "runs_on_after and insert"),
    ),
    Mutant(
        "rows that equal earlier ones pass for sent", "        if past := self._past(sent):\n",
        "        return True\n        if past := self._past(sent):\n", (SENDING, "tables_past and before"),
    ),
    Mutant(
        "the past is left out of the comparison", "WHERE {where}\" if past else \"\"", "WHERE false\"",
        ("test_warehouse.py", "known_by_when_they_came"),
    ),
    Mutant(
        "a table without a past is taken to have none of the rows", "return True if is_told else None", "return True if is_told else False",
        (SENDING, "doubt_stops_the_run"),
    ),
    Mutant("rows without a key are told apart", 'is_told = intent.get("keyed") and not', "is_told = not", ("test_warehouse.py", "without_a_past")),
    Mutant(
        "edited rows prove that nothing ran", "if not found and not is_other:", "if not found:",
        ("test_warehouse.py", "edited_since"),
    ),
    Mutant(
        "commits are taken to tell their time exactly", "before = sent - dt.timedelta(seconds=self.STAMP_SECONDS)",
        "before = sent", ("test_warehouse.py", "from_elsewhere_just_before"),
    ),
    Mutant(
        "a clock that was ahead tells of the past", "if sent.timestamp() > self.session.now():", "if False:",
        ("test_warehouse.py", "clock_that_was_ahead"),
    ),
    Mutant(
        "a statement may begin whenever it likes",
        "return f\"if(greatest(current_timestamp(), {latest}) = {latest}, true, raise_error('{TOO_LATE}'))\"",
        'return "true"', (SENDING, "stood_in_a_queue and insert"),
    ),
    Mutant(
        "statements have no end", 'self.run(f"SET STATEMENT_TIMEOUT = {self.config.databricks_statement_timeout}")',
        "pass", (SENDING, "bounds_its_statements"),
    ),
    Mutant(
        "a session is used though it refused its bound", "as it should be.\n            self.close(is_broken=True)\n", "as it should be.\n",
        (SENDING, "refused_its_bound"),
    ),
    Mutant(
        "files are named by the batch", "{prefix}{os.urandom(16).hex()}.parquet", "{prefix}{intent['sequence']}.parquet",
        (SENDING, "names_of_files"),
    ),
    Mutant(
        "left-over files stay", "for name in self.listed() if name", "for name in [] if name",
        (SENDING, "no_staged_file"),
    ),
    Mutant(
        "a file's columns are known by their places now", 'page.select(intent.get("fields", page.column_names))', "page",
        ("test_warehouse.py", "keeps_its_columns"),
    ),
    # --- Beside the rows ---
    Mutant(
        "any table is compacted", "sorted(features_of(table) - COMPACTABLE_FEATURES) + misnamed:", "misnamed:",
        ("test_actions.py", "do_not_say_all"),
    ),
    Mutant(
        "a compaction gives way to any commit", "target.among_others(functools.partial(compact_table, target.name)) for",
        "compact_table(target.name, target.table()) for",
        ("test_actions.py", "others_disturb"),
    ),
    Mutant(
        "a status table that fails is asked each cycle", "pause = min(said.pause, 86_400) or (interval", "pause = (interval",
        ("test_watching.py", "asked_ever_more_seldom"),
    ),
    Mutant(
        "a dictionary for values that are all different", "    if page.num_rows < SAMPLE_ROWS:\n        return []",
        "    return []", ("test_object_stores.py", "dictionary"),
    ),
    Mutant(
        "a planted link is followed", "replace_durably(file, generate_latest(self.registry), 0o644)",
        "file.write_bytes(generate_latest(self.registry))", ("test_watching.py", "planted_link"),
    ),
    Mutant(
        "rows of the future are safe to delete", "for key in [*ahead, *needed])", "for key in needed)",
        ("test_watching.py", "not_safe_to_delete"),
    ),
    Mutant(
        "what only the source has is safe to delete", "for key in [*ahead, *needed])", "for key in ahead)",
        ("test_watching.py", "not_safe_to_delete"),
    ),
    Mutant(
        "a database made anew is followed too late", "position = cursor.located(state).position",
        "position = state.position", ("test_watching.py", "made_anew_are_not_safe"),
    ),
    Mutant(
        "delta-rs reads on while its error is handled", "                given.close()\n", "",
        ("test_object_stores.py", "reads_no_more"),
    ),
    Mutant(
        "what reads ahead takes the quarantine's file away", "with contextlib.closing(payload()) as pages:", "with contextlib.nullcontext(payload()) as pages:",
        ("test_plan.py", "reads_ahead_is_over"),
    ),
    Mutant(
        "a database that can't be opened leaves files open", "unfinished.callback(self._close)", "pass",
        ("test_source.py", "leaves_no_file_open"),
    ),
    Mutant(
        "side files of our own stay beside the database", "            file.unlink(missing_ok=True)\n\n    def _private_copy", "            pass\n\n    def _private_copy",
        ("test_faults_source.py", "turns_to_a_wal or moment_of_opening"),
    ),
    Mutant(
        "rows that are all equal are there where some are", "too_few or has_equal, too_many", "too_few, too_many",
        ("test_warehouse.py", "every_second_row"),
    ),
    Mutant(
        "a position ahead of the clock is not told", "if leads_clock(cursor, position):", "if False:",
        (TIMES, "ahead_for_a_while"),
    ),
    Mutant(
        "older rows alone are not told", "if newest is not None and sent is not None:", "if False:",
        (TIMES, "older_rows_alone"),
    ),
    Mutant(
        "the last values tell the newest time", "            self._newest = latest_time(self._newest, *times)\n            page", "            page",
        (TIMES, "older_rows_alone"),
    ),
    Mutant(
        "a part of a window is sent again", "since -= since % (length // MICROSECOND)", "pass",
        ("test_scenarios.py", "within_a_window"),
    ),
    Mutant(
        "a DDL has the first table's types", "joint_type(known.get(column, kind), kind)", "known.get(column, kind)",
        ("test_streams.py", "hold_the_values_of_each"),
    ),
    Mutant(
        "a part of a set goes on by other rules", 'if is_there and part["by"] == self.aggregate.form:', "if is_there:",
        ("test_scenarios.py", "amid_the_groups_of_a_set"),
    ),
    Mutant(
        "a window whose rest is gone is open", '        elif part["end"] is not None:\n            position["closed"] = part["end"]\n', "",
        ("test_scenarios.py", "deleted_amid_its_groups"),
    ),
    Mutant(
        "a bare year is a time of 1970", "and since not in PLAUSIBLE_TIMES:", "and False:",
        ("test_actions.py", "since_sends_rows"),
    ),
    Mutant(
        "what is sent again stays as large", "self._resend(intent, part, part.size // 2, save, may_part)", "raise",
        ("test_zerobus.py", "becomes_smaller_where_its"),
    ),
)  # fmt: skip


def mutated(mutant: Mutant, folder: Path) -> None:
    """Write the script with the change into a folder."""
    content = SCRIPT.read_text()
    if content.count(mutant.old) != 1:
        print(f"{mutant.name}: the script has its text {content.count(mutant.old)} times; mend tests/mutations.py")
        sys.exit(2)
    (folder / SCRIPT.name).write_text(content.replace(mutant.old, mutant.new))


def killed_by(mutant: Mutant) -> str | None:
    """The first test that the mutant turns red; None if it survives."""
    file, chosen = mutant.tests
    with tempfile.TemporaryDirectory() as folder:
        mutated(mutant, Path(folder))
        places = shlex.join([folder, str(TESTS), str(STAND_INS)])
        options = ["-n0", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-o", f"pythonpath={places}"]
        command = [sys.executable, "-m", "pytest", *options, "-k", chosen, str(TESTS / file)]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent)
    if ended.returncode not in (0, 1):
        print(ended.stdout, ended.stderr)
        sys.exit(2)
    red = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return red[0].split(" - ")[0].split("::")[-1] if ended.returncode else None


def main(words: list[str]) -> int:
    """Try the mutants; returns the exit status."""
    survivors = 0
    for mutant in MUTANTS:
        if words and not any(word in mutant.name for word in words):
            continue
        test = killed_by(mutant)
        survivors += test is None
        print(f"{'killed' if test else 'SURVIVED':8}  {mutant.name}: {test or ' '.join(mutant.tests)}", flush=True)
    print(f"{survivors} mutants survived" if survivors else "every mutant was killed")
    return min(survivors, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
