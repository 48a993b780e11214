// Copyright 2026 The stl_conveyor maintainers
// SPDX-License-Identifier: Apache-2.0
//
// The inner loops of the codec: contexts and range coding of the groups of one packet, and its check.
//
// stl_conveyor/codec/entropy.py, range_coder.py and crc8.py say the same in Python, are used where
// this module was not built, and are what this one is tested against, byte by byte.
// docs/wire_format.md describes the format.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "Contexts need single-precision products that are rounded once; use the Python path."
#endif

enum { ALPHABET = 7, STATES = 4, CLASSES = 7, CONTEXTS = STATES * CLASSES, PLANES = 4,
       SIDE_LEVELS = 16, LIMIT = 94, TOTAL = 32768, PRECISION = 24,
       // Entries of a row: what lies left of each symbol, in 32768ths, and the end of the last.
       ROW = ALPHABET + 1, SIDE_ROW = SIDE_LEVELS + 1 };

static const float THRESHOLDS[CLASSES - 1] = {
    22 / 64.f, 38 / 64.f, 54 / 64.f, 70 / 64.f, 90 / 64.f, 122 / 64.f};

enum { CHANNEL, PLANE, REGION, CHAIN_START, REGION_START, PLACES, PLACE_CLASS, EXPECTED, TABLES,
       COSTS, SIDE_TABLE, ARRAYS };

// A symbol on its way to the range coder.
typedef struct {
    uint16_t left, share;    // in 32768ths
    uint16_t symbol;
} Coded;

// What the finest integer of a coefficient says on one plane.
typedef struct {
    uint16_t rows;           // where the rows of its parent's state begin
    uint16_t symbol;
} OnPlane;

typedef struct {
    PyObject_HEAD
    Py_buffer array[ARRAYS];
    int held;
    int groups, channels, grid, positions;
    uint16_t *rows;      // [groups, CONTEXTS, ROW]
    uint16_t side_row[SIDE_ROW];
    // Scratch space of one call, which holds the interpreter's lock throughout.
    int32_t *seen;       // [positions], weighted count of symbols other than 0
    int8_t *joined;      // [channels, positions], integers joined from this packet
    uint8_t *classes;    // [positions], activity classes of one group
    Coded *coded;        // the symbols of one packet
    OnPlane on_plane[2][PLANES][256];    // without and with its parent, by the integer's byte
} Coder;

#define AS(self, type, which) ((const type *)(self)->array[which].buf)

// ---- range coder -----------------------------------------------------------------------------

typedef struct {
    uint64_t lower, range;
    uint32_t *words;
    size_t count, inverted;
    uint32_t first_inverted;
} RangeEncoder;

static void settle(RangeEncoder *e, uint32_t first, uint32_t others)
{
    e->words[e->count++] = first;
    for (size_t k = 1; k < e->inverted; k++)
        e->words[e->count++] = others;
    e->inverted = 0;
}

// The last symbol of an alphabet ends at 2^PRECISION: its product is exact.
static inline void encode_symbol(RangeEncoder *e, Coded c, int alphabet)
{
    const float scale = (float)((1u << PRECISION) - (uint32_t)alphabet) / (float)TOTAL;
    const uint32_t left = (uint32_t)((float)c.left * scale) + c.symbol;
    const uint32_t right = (uint32_t)((float)(c.left + c.share) * scale) + c.symbol + 1u;
    const uint64_t unit = e->range >> PRECISION;
    const uint64_t lower = e->lower + unit * left;
    e->range = unit * (right - left);
    if (e->inverted && lower + e->range > lower) {
        if (lower < e->lower)
            settle(e, e->first_inverted + 1, 0);
        else
            settle(e, e->first_inverted, UINT32_MAX);
    }
    e->lower = lower;
    if (e->range < (uint64_t)1 << 32) {
        const uint32_t word = (uint32_t)(e->lower >> 32);
        e->range <<= 32;
        e->lower <<= 32;
        if (e->inverted) {
            e->inverted++;
        } else if (e->lower + e->range > e->lower) {
            e->words[e->count++] = word;
        } else {
            e->inverted = 1;
            e->first_inverted = word;
        }
    }
}

// Write the fewest bytes that a decoder which reads zeros past the end accepts; return their count.
static size_t finish(RangeEncoder *e, uint8_t *out)
{
    const size_t whole = e->count + e->inverted;
    const uint64_t lower = e->lower, range = e->range;
    size_t size = 0;
    if (range != UINT64_MAX) {
        const uint64_t point = lower + UINT32_MAX;
        if (e->inverted) {
            if (point >= lower)
                settle(e, e->first_inverted, UINT32_MAX);
            else
                settle(e, e->first_inverted + 1, 0);
        }
        const uint32_t point_word = (uint32_t)(point >> 32);
        e->words[e->count++] = point_word;
        if ((uint32_t)((lower + range) >> 32) == point_word)
            e->words[e->count++] = 0;
    }
    for (size_t k = 0; k < e->count; k++)
        for (int byte = 3; byte >= 0; byte--)
            out[size++] = (uint8_t)(e->words[k] >> (8 * byte));
    uint64_t tail = 0;
    for (size_t k = 0; k < 8; k++)
        tail = tail << 8 | (4 * whole + k < size ? out[4 * whole + k] : 0);
    if (tail < lower || tail - lower >= range)
        return size;
    for (int bytes = 0; bytes <= 8; bytes++) {
        uint64_t value = lower;
        if (bytes == 0) {
            if (lower)
                continue;
        } else if (bytes < 8) {
            const uint64_t unit = (uint64_t)1 << (64 - 8 * bytes), rest = lower & (unit - 1);
            if (rest) {
                value = lower - rest + unit;
                if (value < lower)
                    continue;
            }
        }
        if (value - lower < range) {
            size = 4 * whole;
            for (int k = 0; k < bytes; k++)
                out[size++] = (uint8_t)(value >> (56 - 8 * k));
            break;
        }
    }
    while (size && !out[size - 1])
        size--;
    return size;
}

typedef struct {
    uint64_t lower, range, point;
    const uint8_t *data;
    size_t size, at;
} RangeDecoder;

static uint32_t next_word(RangeDecoder *d)
{
    uint32_t word = 0;
    for (int k = 0; k < 4; k++, d->at++)
        word = word << 8 | (d->at < d->size ? d->data[d->at] : 0);
    return word;
}

static void start_decoder(RangeDecoder *d, const uint8_t *data, size_t size)
{
    *d = (RangeDecoder){0, UINT64_MAX, 0, data, size, 0};
    d->point = (uint64_t)next_word(d) << 32;
    d->point |= next_word(d);
}

// Return the next symbol, or -1 where no encoder can have written these bytes.
static inline int decode_symbol(RangeDecoder *d, const uint16_t *row, int alphabet)
{
    const float scale = (float)((1u << PRECISION) - (uint32_t)alphabet) / (float)TOTAL;
    const uint64_t unit = d->range >> PRECISION, quantile = (d->point - d->lower) / unit;
    if (quantile >> PRECISION)
        return -1;
    uint32_t left = 0, right = 1u << PRECISION;
    int symbol = 0;
    for (; symbol < alphabet - 1; symbol++) {
        right = (uint32_t)((float)row[symbol + 1] * scale) + (uint32_t)symbol + 1;
        if (right > quantile)
            break;
        left = right;
        right = 1u << PRECISION;
    }
    d->lower += unit * left;
    d->range = unit * (right - left);
    if (d->range < (uint64_t)1 << 32) {
        d->lower <<= 32;
        d->range <<= 32;
        d->point = d->point << 32 | next_word(d);
    }
    return symbol;
}

// ---- contexts --------------------------------------------------------------------------------

typedef struct {
    int group, plane, channel, size, banded;
    const uint16_t *places;
    const int8_t *classes;
    const float *expected;
    int linked;          // whether this packet holds all coarser planes of these coefficients
} Group;

static Group open_group(const Coder *self, int group, int first)
{
    Group g;
    const int region = AS(self, uint8_t, REGION)[group];
    const int32_t *start = AS(self, int32_t, REGION_START);
    g.group = group;
    g.plane = AS(self, uint8_t, PLANE)[group];
    g.channel = AS(self, int16_t, CHANNEL)[group];
    g.size = start[region + 1] - start[region];
    g.places = AS(self, uint16_t, PLACES) + start[region];
    g.classes = AS(self, int8_t, PLACE_CLASS) + start[region];
    g.banded = g.size && g.classes[0] >= 0;
    g.expected = AS(self, float, EXPECTED) + (size_t)group * self->positions;
    g.linked = g.plane && AS(self, int32_t, CHAIN_START)[group] >= first;
    return g;
}

// Write the activity class of each symbol of a group; it does not change within the group.
static void activity_classes(const Group *g, const int32_t *restrict seen,
                             const float *restrict before, uint8_t *restrict out)
{
    const int size = g->size;
    const uint16_t *restrict places = g->places;
    const float *restrict expected = g->expected;
    if (g->banded) {
        memcpy(out, g->classes, (size_t)size);
        return;
    }
    for (int k = 0; k < size; k++) {
        const int place = places[k];
        const float left = (float)seen[place] * 256.f + 4096.f;
        const float right = expected[place] - before[place] + 4096.f;
        int class = 0;
        for (int t = 0; t < CLASSES - 1; t++)
            class += left >= (float)(right * THRESHOLDS[t]);
        out[k] = (uint8_t)class;
    }
}

// Return where the rows of a state of the parent begin in a table.
static inline int state_rows(int linked, int parent)
{
    return (linked ? 2 + (parent > 0) - (parent < 0) : 0) * CLASSES * ROW;
}

static inline Coded to_code(const uint16_t *row, int symbol)
{
    return (Coded){row[symbol], (uint16_t)(row[symbol + 1] - row[symbol]), (uint16_t)symbol};
}

static void mark_seen(Coder *self, int place)
{
    const int grid = self->grid, row = place / grid, column = place % grid;
    int32_t *seen = self->seen + place;
    seen[0] += 4;
    if (row > 0)
        seen[-grid]++;
    if (row < grid - 1)
        seen[grid]++;
    if (column > 0)
        seen[-1]++;
    if (column < grid - 1)
        seen[1]++;
}

// ---- the Python type ---------------------------------------------------------------------------

static void release(Coder *self)
{
    while (self->held)
        PyBuffer_Release(&self->array[--self->held]);
    PyMem_Free(self->seen);
    PyMem_Free(self->joined);
    PyMem_Free(self->classes);
    PyMem_Free(self->coded);
    PyMem_Free(self->rows);
    self->rows = NULL;
    self->seen = NULL;
    self->joined = NULL;
    self->classes = NULL;
    self->coded = NULL;
}

// A row that sums to more would point past the costs and out of the coder's interval.
static int rows_fit(const uint16_t *shares, Py_ssize_t count, int alphabet)
{
    for (Py_ssize_t k = 0; k < count; k++) {
        uint32_t sum = 0;
        for (int s = 0; s < alphabet; s++)
            sum += shares[k * alphabet + s];
        if (sum != TOTAL)
            return 0;
    }
    return 1;
}

static void add_up(const uint16_t *shares, Py_ssize_t count, int alphabet, uint16_t *rows)
{
    for (Py_ssize_t k = 0; k < count; k++, shares += alphabet, rows += alphabet + 1) {
        rows[0] = 0;
        for (int s = 0; s < alphabet; s++)
            rows[s + 1] = (uint16_t)(rows[s] + shares[s]);
    }
}

static int check_arrays(Coder *self)
{
    const Py_ssize_t groups = self->groups, positions = self->positions;
    const int32_t *start = AS(self, int32_t, REGION_START);
    const Py_ssize_t regions = self->array[REGION_START].len / 4 - 1;
    const Py_ssize_t places = self->array[PLACES].len / 2;
    if (groups < 1 || self->channels < 1 || positions < 1 || regions < 1
        || positions != self->grid * self->grid || positions > UINT16_MAX
        || self->array[CHANNEL].len != 2 * groups || self->array[PLANE].len != groups
        || self->array[REGION].len != groups || self->array[CHAIN_START].len != 4 * groups
        || self->array[PLACE_CLASS].len != places
        || self->array[EXPECTED].len != 4 * (groups + 1) * positions
        || self->array[TABLES].len != 2 * groups * CONTEXTS * ALPHABET
        || self->array[COSTS].len != 2 * (TOTAL / 8 + 1)
        || self->array[SIDE_TABLE].len != 2 * SIDE_LEVELS
        || start[0] != 0 || start[regions] != places)
        return 0;
    for (Py_ssize_t r = 0; r < regions; r++) {
        if (start[r + 1] < start[r] || start[r + 1] > places)
            return 0;
        for (int32_t k = start[r]; k < start[r + 1]; k++)  // a band throughout, or not at all
            if ((AS(self, int8_t, PLACE_CLASS)[k] < 0) != (AS(self, int8_t, PLACE_CLASS)[start[r]] < 0))
                return 0;
    }
    for (Py_ssize_t k = 0; k < places; k++)
        if (AS(self, uint16_t, PLACES)[k] >= positions
            || AS(self, int8_t, PLACE_CLASS)[k] >= CLASSES)
            return 0;
    if (!rows_fit(AS(self, uint16_t, TABLES), groups * CONTEXTS, ALPHABET)
        || !rows_fit(AS(self, uint16_t, SIDE_TABLE), 1, SIDE_LEVELS))
        return 0;
    for (Py_ssize_t g = 0; g < groups; g++)
        if (AS(self, int16_t, CHANNEL)[g] < 0 || AS(self, int16_t, CHANNEL)[g] >= self->channels
            || AS(self, uint8_t, PLANE)[g] >= PLANES || AS(self, uint8_t, REGION)[g] >= regions)
            return 0;
    return 1;
}

static int coder_init(Coder *self, PyObject *args, PyObject *keywords)
{
    PyObject *given[ARRAYS];
    if (self->held || keywords) {
        PyErr_SetString(PyExc_TypeError, "Coder takes positional arguments, once");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "iiOOOOOOOOOOO", &self->channels, &self->grid, given, given + 1,
                          given + 2, given + 3, given + 4, given + 5, given + 6, given + 7,
                          given + 8, given + 9, given + 10))
        return -1;
    for (; self->held < ARRAYS; self->held++)
        if (PyObject_GetBuffer(given[self->held], &self->array[self->held], PyBUF_C_CONTIGUOUS))
            return -1;
    self->groups = (int)self->array[PLANE].len;
    self->positions = self->grid * self->grid;
    if (!check_arrays(self)) {
        PyErr_SetString(PyExc_ValueError, "the arrays of the codec do not fit together");
        return -1;
    }
    size_t symbols = 0;
    for (int g = 0; g < self->groups; g++)
        symbols += (size_t)open_group(self, g, 0).size;
    self->seen = PyMem_Calloc((size_t)self->positions, sizeof *self->seen);
    self->joined = PyMem_Calloc((size_t)self->positions * self->channels, 1);
    self->classes = PyMem_Calloc((size_t)self->positions, 1);
    self->coded = PyMem_Calloc(symbols + 1, sizeof *self->coded);
    self->rows = PyMem_Calloc((size_t)self->groups * CONTEXTS * ROW, sizeof *self->rows);
    if (!self->seen || !self->joined || !self->classes || !self->coded || !self->rows) {
        PyErr_NoMemory();
        return -1;
    }
    add_up(AS(self, uint16_t, TABLES), (Py_ssize_t)self->groups * CONTEXTS, ALPHABET, self->rows);
    add_up(AS(self, uint16_t, SIDE_TABLE), 1, SIDE_LEVELS, self->side_row);
    for (int q = INT8_MIN; q <= INT8_MAX; q++) {
        int value = q < -LIMIT ? -LIMIT : q > LIMIT ? LIMIT : q;
        for (int plane = PLANES - 1; plane >= 0; plane--) {
            // Floor division by 3 of a number that can be negative.
            const int coarser = (value + 1 + 300) / 3 - 100;
            const int symbol = (plane ? value - 3 * coarser : value) + ALPHABET / 2;
            for (int linked = 0; linked < 2; linked++)
                self->on_plane[linked][plane][(uint8_t)q] =
                    (OnPlane){(uint16_t)state_rows(linked, coarser), (uint16_t)symbol};
            value = coarser;
        }
    }
    return 0;
}

static void coder_dealloc(Coder *self)
{
    release(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

// encode(quantised i8[K, positions], first, limit in bytes, side levels u8[C] or None)
static PyObject *coder_encode(Coder *self, PyObject *args)
{
    Py_buffer values, side = {0};
    PyObject *given, *result = NULL;
    int first;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "y*inO", &values, &first, &limit, &given))
        return NULL;
    if (given != Py_None && PyObject_GetBuffer(given, &side, PyBUF_C_CONTIGUOUS)) {
        PyBuffer_Release(&values);
        return NULL;
    }
    const int8_t *value = values.buf;
    const uint8_t *levels = side.buf;
    const uint16_t *costs = AS(self, uint16_t, COSTS);
    int valid = values.len == (Py_ssize_t)self->channels * self->positions && first >= 0
                && first <= self->groups;
    for (Py_ssize_t k = 0; valid && k < side.len; k++)
        valid = levels[k] < SIDE_LEVELS;
    if (!valid) {
        PyErr_SetString(PyExc_ValueError, "symbols do not fit the codec");
        goto done;
    }
    int64_t budget = limit > 0 ? (int64_t)limit * 8 * 256 - 256 : 0;
    for (Py_ssize_t k = 0; k < side.len; k++)
        budget -= costs[to_code(self->side_row, levels[k]).share / 8];
    memset(self->seen, 0, (size_t)self->positions * sizeof *self->seen);
    const float *before = AS(self, float, EXPECTED) + (size_t)first * self->positions;
    int64_t spent = 0;
    size_t symbols = 0;
    int group = first;
    for (; group < self->groups; group++) {
        const Group g = open_group(self, group, first);
        const int8_t *channel = value + (size_t)g.channel * self->positions;
        const uint16_t *rows = self->rows + (size_t)group * CONTEXTS * ROW;
        const OnPlane *on_plane = self->on_plane[g.linked][g.plane];
        Coded *restrict coded = self->coded + symbols;
        const uint8_t *restrict classes = self->classes;
        const int size = g.size;
        const uint16_t *restrict places = g.places;
        activity_classes(&g, self->seen, before, self->classes);
        int32_t cost = 0;
        for (int k = 0; k < size; k++) {
            const OnPlane found = on_plane[(uint8_t)channel[places[k]]];
            coded[k] = to_code(rows + found.rows + classes[k] * ROW, found.symbol);
            cost += costs[coded[k].share / 8];
        }
        spent += cost;
        if (spent > budget)
            break;
        symbols += (size_t)size;
        if (!g.banded)
            for (int k = 0; k < g.size; k++)
                if (coded[k].symbol != ALPHABET / 2)
                    mark_seen(self, g.places[k]);
    }
    int count = group - first;
    // No symbol takes more than 24 bits.
    const size_t room = (symbols + (size_t)side.len) * 3 / 4 + 8;
    uint32_t *words = PyMem_Malloc(room * 4);
    uint8_t *data = PyMem_Malloc(room * 4);
    if (!words || !data) {
        PyErr_NoMemory();
    } else {
        for (;;) {
            RangeEncoder e = {0, UINT64_MAX, words, 0, 0, 0};
            for (Py_ssize_t k = 0; k < side.len; k++)
                encode_symbol(&e, to_code(self->side_row, levels[k]), SIDE_LEVELS);
            for (size_t k = 0; k < symbols; k++)
                encode_symbol(&e, self->coded[k], ALPHABET);
            const size_t size = finish(&e, data);
            if ((Py_ssize_t)size <= limit || !count) {
                result = Py_BuildValue("iy#", count, data, (Py_ssize_t)size);
                break;
            }
            count--;
            symbols -= (size_t)open_group(self, first + count, first).size;
        }
    }
    PyMem_Free(words);
    PyMem_Free(data);
done:
    PyBuffer_Release(&values);
    if (side.obj)
        PyBuffer_Release(&side);
    return result;
}

// decode(body, first, groups, labels or 0): (side levels, symbols), or None for impossible bytes
static PyObject *coder_decode(Coder *self, PyObject *args)
{
    Py_buffer body;
    int first, groups, labels;
    if (!PyArg_ParseTuple(args, "y*iii", &body, &first, &groups, &labels))
        return NULL;
    PyObject *side = NULL, *symbols = NULL, *result = NULL;
    if (first < 0 || groups < 0 || labels < 0 || first > self->groups
        || groups > self->groups - first) {
        PyErr_SetString(PyExc_ValueError, "groups do not fit the codec");
        goto done;
    }
    Py_ssize_t count = 0;
    for (int g = first; g < first + groups; g++)
        count += open_group(self, g, first).size;
    side = PyBytes_FromStringAndSize(NULL, labels);
    symbols = PyBytes_FromStringAndSize(NULL, count);
    if (!side || !symbols)
        goto done;
    int8_t *out = (int8_t *)PyBytes_AS_STRING(symbols);
    RangeDecoder d;
    start_decoder(&d, body.buf, (size_t)body.len);
    for (int k = 0; k < labels; k++) {
        const int level = decode_symbol(&d, self->side_row, SIDE_LEVELS);
        if (level < 0)
            goto impossible;
        PyBytes_AS_STRING(side)[k] = (char)level;
    }
    memset(self->seen, 0, (size_t)self->positions * sizeof *self->seen);
    const float *before = AS(self, float, EXPECTED) + (size_t)first * self->positions;
    for (int group = first; group < first + groups; group++) {
        const Group g = open_group(self, group, first);
        int8_t *joined = self->joined + (size_t)g.channel * self->positions;
        const uint16_t *rows = self->rows + (size_t)group * CONTEXTS * ROW;
        activity_classes(&g, self->seen, before, self->classes);
        for (int k = 0; k < g.size; k++) {
            const int parent = g.linked ? joined[g.places[k]] : 0;
            const uint16_t *row = rows + state_rows(g.linked, parent) + self->classes[k] * ROW;
            const int symbol = decode_symbol(&d, row, ALPHABET);
            if (symbol < 0)
                goto impossible;
            out[k] = (int8_t)(symbol - ALPHABET / 2);
            joined[g.places[k]] = (int8_t)(3 * parent + out[k]);
        }
        if (!g.banded)
            for (int k = 0; k < g.size; k++)
                if (out[k])
                    mark_seen(self, g.places[k]);
        out += g.size;
    }
    result = PyTuple_Pack(2, side, symbols);
    goto done;
impossible:
    result = Py_NewRef(Py_None);
done:
    Py_XDECREF(side);
    Py_XDECREF(symbols);
    PyBuffer_Release(&body);
    return result;
}

static PyMethodDef coder_methods[] = {
    {"encode", (PyCFunction)coder_encode, METH_VARARGS,
     "Return (groups, bytes) of as many groups as fit."},
    {"decode", (PyCFunction)coder_decode, METH_VARARGS,
     "Return (side levels, symbols) as bytes, or None for bytes that no encoder writes."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject CoderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "stl_conveyor._coder.Coder",
    .tp_basicsize = sizeof(Coder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Contexts and range coder of one codec.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)coder_init,
    .tp_dealloc = (destructor)coder_dealloc,
    .tp_methods = coder_methods};

// ---- check byte ------------------------------------------------------------------------------

enum { CRC_POLYNOMIAL = 0x1D, CRC_FIRST = 0xFF, CRC_INVERTED = 0xFF };

static uint8_t crc_remainders[256];

static void fill_crc_remainders(void)
{
    for (int byte = 0; byte < 256; byte++) {
        int rest = byte;
        for (int bit = 0; bit < 8; bit++)
            rest = rest << 1 ^ (rest & 0x80 ? CRC_POLYNOMIAL : 0);
        crc_remainders[byte] = (uint8_t)rest;
    }
}

static PyObject *coder_crc8(PyObject *module, PyObject *argument)
{
    (void)module;
    Py_buffer data;
    if (PyObject_GetBuffer(argument, &data, PyBUF_SIMPLE))
        return NULL;
    const uint8_t *bytes = data.buf;
    uint8_t crc = CRC_FIRST;
    for (Py_ssize_t k = 0; k < data.len; k++)
        crc = crc_remainders[crc ^ bytes[k]];
    PyBuffer_Release(&data);
    return PyLong_FromLong(crc ^ CRC_INVERTED);
}

static PyMethodDef module_methods[] = {
    {"crc8", coder_crc8, METH_O, "Return the check byte of some bytes, 0..255."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "stl_conveyor._coder",
    .m_doc = "The inner loops of the codec in C.", .m_size = -1, .m_methods = module_methods};

PyMODINIT_FUNC PyInit__coder(void)
{
    if (PyType_Ready(&CoderType))
        return NULL;
    fill_crc_remainders();
    PyObject *module = PyModule_Create(&module_definition);
    if (!module || PyModule_AddObjectRef(module, "Coder", (PyObject *)&CoderType)) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
