// Copyright 2026 The stl_conveyor maintainers
// SPDX-License-Identifier: Apache-2.0
//
// The codec's patch transform on the device: pixels u8 times weights of 8 bits, summed exactly.
//
// Sums of integers do not depend on their order, so every machine makes the same coefficients,
// and so does stl_conveyor/codec/transform.py, which is used where this module was not built.
// Processors with a dot product of bytes (x86 VNNI, Arm dotprod) multiply bytes; on others both
// factors are widened to 16 bits first.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <stdint.h>
#include <string.h>
#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "Coefficients need single-precision products that are rounded once; use the Python path."
#endif

enum { TILE = 4 };       // patches, and channels, whose sums are kept in registers together

static const float WITHOUT_FRACTION = 3 << 22;

enum { WEIGHTS, SCALE, OFFSET, ORDER, SPATIAL, ARRAYS };

typedef void Products(const void *pixels, const void *weights, int patches, int channels,
                      int inputs, int32_t *sums);

typedef struct {
    PyObject_HEAD
    Py_buffer array[ARRAYS];
    int held;
    int channels, grid, patch, positions, patches, rows, inputs, banded;
    Products *products;
    int wide;            // whether both factors are kept as 16 bits
    int from;            // what pixels are counted from
    void *weights;       // [rows, inputs], channels padded to whole tiles
    void *pixels;        // [patches, inputs], positions padded to whole tiles
    int32_t *sums;       // [rows, patches]
    int32_t *lift;       // [rows], what to add where pixels are not counted from 0
    float *values;       // [positions], one channel
    double *maps;        // [positions], the same after its transform over the image
} Transform;

#define AS(self, type, which) ((const type *)(self)->array[which].buf)

// ---- sums of products ------------------------------------------------------------------------

#define INLINE static inline __attribute__((always_inline))

// sums[4][patches] of four channels and four patches; one name for each pair of types.
#define TILE_OF(NAME, PIXEL, WEIGHT)                                                             \
    INLINE void NAME##_tile(const PIXEL *restrict x, const WEIGHT *restrict w, int n,            \
                            int32_t *restrict sums, int patches)                                 \
    {                                                                                            \
        const PIXEL *x0 = x, *x1 = x + n, *x2 = x1 + n, *x3 = x2 + n;                            \
        const WEIGHT *w0 = w, *w1 = w + n, *w2 = w1 + n, *w3 = w2 + n;                           \
        int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;                  \
        int32_t c0 = 0, c1 = 0, c2 = 0, c3 = 0, d0 = 0, d1 = 0, d2 = 0, d3 = 0;                  \
        for (int k = 0; k < n; k++) {                                                            \
            a0 += x0[k] * w0[k]; a1 += x1[k] * w0[k]; a2 += x2[k] * w0[k]; a3 += x3[k] * w0[k];  \
            b0 += x0[k] * w1[k]; b1 += x1[k] * w1[k]; b2 += x2[k] * w1[k]; b3 += x3[k] * w1[k];  \
            c0 += x0[k] * w2[k]; c1 += x1[k] * w2[k]; c2 += x2[k] * w2[k]; c3 += x3[k] * w2[k];  \
            d0 += x0[k] * w3[k]; d1 += x1[k] * w3[k]; d2 += x2[k] * w3[k]; d3 += x3[k] * w3[k];  \
        }                                                                                        \
        sums[0] = a0; sums[1] = a1; sums[2] = a2; sums[3] = a3;                                  \
        sums += patches;                                                                         \
        sums[0] = b0; sums[1] = b1; sums[2] = b2; sums[3] = b3;                                  \
        sums += patches;                                                                         \
        sums[0] = c0; sums[1] = c1; sums[2] = c2; sums[3] = c3;                                  \
        sums += patches;                                                                         \
        sums[0] = d0; sums[1] = d1; sums[2] = d2; sums[3] = d3;                                  \
    }                                                                                            \
    INLINE void NAME##_all(const void *pixels, const void *weights, int patches, int channels,   \
                           int inputs, int32_t *sums)                                            \
    {                                                                                            \
        const PIXEL *x = pixels;                                                                 \
        const WEIGHT *w = weights;                                                               \
        for (int c = 0; c < channels; c += TILE)                                                 \
            for (int p = 0; p < patches; p += TILE)                                              \
                NAME##_tile(x + (size_t)p * inputs, w + (size_t)c * inputs, inputs,              \
                            sums + (size_t)c * patches + p, patches);                            \
    }

#define PRODUCTS(NAME, TYPES)                                                                    \
    static void NAME(const void *pixels, const void *weights, int patches, int channels,         \
                     int inputs, int32_t *sums)                                                  \
    {                                                                                            \
        TYPES##_all(pixels, weights, patches, channels, inputs, sums);                           \
    }

TILE_OF(words, int16_t, int16_t)
PRODUCTS(words_anywhere, words)

#if defined(__x86_64__) && defined(__GNUC__)
TILE_OF(bytes, uint8_t, int8_t)
__attribute__((target("avx2"))) PRODUCTS(words_avx2, words)
#if !defined(__clang__) && __GNUC__ >= 12
#define HAVE_VNNI 1
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,prefer-vector-width=512")))
PRODUCTS(bytes_vnni, bytes)
// Processors of recent years without AVX-512 have the instruction for half as many bytes.
__attribute__((target("avx2,avxvnni"))) PRODUCTS(bytes_avxvnni, bytes)
#endif
#elif defined(__aarch64__) && defined(__linux__)
// The instruction takes two signed bytes: pixels are counted from 128.
TILE_OF(bytes, int8_t, int8_t)
__attribute__((target("arch=armv8.2-a+dotprod"))) PRODUCTS(bytes_dotprod, bytes)
#endif

typedef struct {
    const char *name;
    Products *products;
    int wide, from;
} Kernel;

// Every kernel that this processor has, the best one first; returns how many.
static int available_kernels(Kernel *found)
{
    int count = 0;
#if defined(HAVE_VNNI)
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl"))
        found[count++] = (Kernel){"vnni", bytes_vnni, 0, 0};
    if (__builtin_cpu_supports("avxvnni"))
        found[count++] = (Kernel){"avxvnni", bytes_avxvnni, 0, 0};
#endif
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2"))
        found[count++] = (Kernel){"avx2", words_avx2, 1, 0};
#elif defined(__aarch64__) && defined(__linux__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        found[count++] = (Kernel){"dotprod", bytes_dotprod, 0, 128};
#endif
    found[count++] = (Kernel){"words", words_anywhere, 1, 0};
    return count;
}

enum { MOST_KERNELS = 4 };

// ---- the Python type ---------------------------------------------------------------------------

static void *padded(size_t count, size_t size)
{
    return PyMem_Calloc(count + 64, size);
}

static int check_arrays(const Transform *self)
{
    const Py_ssize_t channels = self->channels, positions = self->positions;
    if (channels < 1 || channels > INT16_MAX || self->grid < 1 || self->grid > 256
        || self->patch < 1 || self->patch > 64
        || self->array[WEIGHTS].len != channels * self->inputs
        || self->array[SCALE].len != 4 * channels
        || self->array[OFFSET].len != 4 * channels * positions
        || self->array[ORDER].len != 2 * channels
        || self->array[SPATIAL].len != 4 * self->banded * positions * positions)
        return 0;
    for (Py_ssize_t k = 0; k < channels; k++)
        if (AS(self, int16_t, ORDER)[k] < 0 || AS(self, int16_t, ORDER)[k] >= channels)
            return 0;
    return 1;
}

static void prepare(Transform *self, const Kernel *kernel)
{
    const int8_t *given = AS(self, int8_t, WEIGHTS);
    self->products = kernel->products;
    self->wide = kernel->wide;
    self->from = kernel->from;
    for (size_t k = 0; k < (size_t)self->channels * self->inputs; k++) {
        if (kernel->wide)
            ((int16_t *)self->weights)[k] = given[k];
        else
            ((int8_t *)self->weights)[k] = given[k];
        self->lift[k / self->inputs] += kernel->from * given[k];
    }
}

static void release(Transform *self)
{
    while (self->held)
        PyBuffer_Release(&self->array[--self->held]);
    PyMem_Free(self->weights);
    PyMem_Free(self->pixels);
    PyMem_Free(self->sums);
    PyMem_Free(self->lift);
    PyMem_Free(self->values);
    PyMem_Free(self->maps);
}

// Transform(channels, grid, patch, banded, weights i8[K, 3 patch^2], scale f32[K],
//           offset f32[K, positions], order i16[K], spatial f32[banded, positions, positions],
//           kernel's name or None). Rows of weights, scale and offset are in `order`.
static int transform_init(Transform *self, PyObject *args, PyObject *keywords)
{
    PyObject *given[ARRAYS];
    const char *name = NULL;
    if (self->held || keywords) {
        PyErr_SetString(PyExc_TypeError, "Transform takes positional arguments, once");
        return -1;
    }
    if (!PyArg_ParseTuple(args, "iiiiOOOOOz", &self->channels, &self->grid, &self->patch,
                          &self->banded, given, given + 1, given + 2, given + 3, given + 4,
                          &name))
        return -1;
    for (; self->held < ARRAYS; self->held++)
        if (PyObject_GetBuffer(given[self->held], &self->array[self->held], PyBUF_C_CONTIGUOUS))
            return -1;
    self->positions = self->grid * self->grid;
    self->inputs = 3 * self->patch * self->patch;
    if (self->banded < 0 || self->banded > self->channels || !check_arrays(self)) {
        PyErr_SetString(PyExc_ValueError, "the arrays of the transform do not fit together");
        return -1;
    }
    Kernel kernels[MOST_KERNELS];
    const int count = available_kernels(kernels);
    int chosen = 0;
    while (name && chosen < count && strcmp(name, kernels[chosen].name))
        chosen++;
    if (chosen == count) {
        PyErr_Format(PyExc_ValueError, "this processor has no kernel '%s'", name);
        return -1;
    }
    self->patches = (self->positions + TILE - 1) / TILE * TILE;
    self->rows = (self->channels + TILE - 1) / TILE * TILE;
    const size_t inputs = (size_t)self->inputs;
    self->weights = padded((size_t)self->rows * inputs, 2);
    self->pixels = padded((size_t)self->patches * inputs, 2);
    self->sums = padded((size_t)self->rows * self->patches, sizeof *self->sums);
    self->lift = padded((size_t)self->rows, sizeof *self->lift);
    self->values = padded((size_t)self->positions, sizeof *self->values);
    self->maps = padded((size_t)self->positions, sizeof *self->maps);
    if (!self->weights || !self->pixels || !self->sums || !self->lift || !self->values
        || !self->maps) {
        PyErr_NoMemory();
        return -1;
    }
    prepare(self, kernels + chosen);
    return 0;
}

static void transform_dealloc(Transform *self)
{
    release(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static void cut_patches(Transform *self, const uint8_t *image)
{
    const int row = self->patch * 3, from = self->from;
    for (int p = 0; p < self->positions; p++) {
        const size_t top = (size_t)(p / self->grid) * self->patch, left = p % self->grid;
        for (int y = 0; y < self->patch; y++) {
            const uint8_t *in = image + ((top + y) * self->grid + left) * row;
            const size_t at = (size_t)p * self->inputs + (size_t)y * row;
            int16_t *restrict words = (int16_t *)self->pixels + at;
            uint8_t *restrict bytes = (uint8_t *)self->pixels + at;
            if (self->wide)
                for (int x = 0; x < row; x++)
                    words[x] = in[x];
            else if (from)
                for (int x = 0; x < row; x++)
                    bytes[x] = (uint8_t)(in[x] - from);
            else
                memcpy(bytes, in, (size_t)row);
        }
    }
}

// quantise(image u8[S, S, 3], channels, limit): i8[K, positions] as bytes
static PyObject *transform_quantise(Transform *self, PyObject *args)
{
    Py_buffer image;
    int channels, limit;
    if (!PyArg_ParseTuple(args, "y*ii", &image, &channels, &limit))
        return NULL;
    const int positions = self->positions;
    const float low = (float)-limit, high = (float)limit;
    PyObject *result = NULL;
    if (image.len != (Py_ssize_t)positions * self->inputs || channels < 0
        || channels > self->channels || limit < 1 || limit > INT8_MAX) {
        PyErr_SetString(PyExc_ValueError, "the image does not fit the transform");
        goto done;
    }
    result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)self->channels * positions);
    if (!result)
        goto done;
    int8_t *out = (int8_t *)PyBytes_AS_STRING(result);
    memset(out, 0, (size_t)self->channels * positions);
    cut_patches(self, image.buf);
    self->products(self->pixels, self->weights, self->patches,
                   (channels + TILE - 1) / TILE * TILE, self->inputs, self->sums);
    for (int row = 0; row < channels; row++) {
        const int channel = AS(self, int16_t, ORDER)[row];
        const int32_t *sums = self->sums + (size_t)row * self->patches, lift = self->lift[row];
        const float scale = AS(self, float, SCALE)[row];
        const float *restrict offset = AS(self, float, OFFSET) + (size_t)row * positions;
        float *restrict values = self->values;
        for (int p = 0; p < positions; p++) {
            const float product = (float)(sums[p] + lift) * scale;
            values[p] = product - offset[p];
        }
        if (channel < self->banded) {
            const float *matrix = AS(self, float, SPATIAL)
                                  + (size_t)channel * positions * positions;
            for (int p = 0; p < positions; p++) {
                double sum = 0;
                for (int q = 0; q < positions; q++)
                    sum += (double)matrix[(size_t)p * positions + q] * values[q];
                self->maps[p] = sum;
            }
            for (int p = 0; p < positions; p++)
                values[p] = (float)self->maps[p];
        }
        int8_t *restrict to = out + (size_t)channel * positions;
        for (int p = 0; p < positions; p++) {
            // What is no number fails both comparisons: its conversion would be undefined.
            float value = values[p] > low ? values[p] : low;
            value = value < high ? value : high;
            // A float of this size has no fraction: the sum is rounded to the nearest, ties to even.
            to[p] = (int8_t)(int32_t)(value + WITHOUT_FRACTION - WITHOUT_FRACTION);
        }
    }
done:
    PyBuffer_Release(&image);
    return result;
}

static PyMethodDef transform_methods[] = {
    {"quantise", (PyCFunction)transform_quantise, METH_VARARGS,
     "Return the finest integers i8[K, positions] of an image, as bytes."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject TransformType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "stl_conveyor._transform.Transform",
    .tp_basicsize = sizeof(Transform),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Patch transform and finest quantiser of one codec.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)transform_init,
    .tp_dealloc = (destructor)transform_dealloc,
    .tp_methods = transform_methods};

static PyObject *kernels(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
    Kernel found[MOST_KERNELS];
    const int count = available_kernels(found);
    PyObject *names = PyTuple_New(count);
    for (int k = 0; names && k < count; k++)
        PyTuple_SET_ITEM(names, k, PyUnicode_FromString(found[k].name));
    return names;
}

static PyMethodDef module_methods[] = {
    {"kernels", kernels, METH_NOARGS, "Return the names of this processor's kernels, best first."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "stl_conveyor._transform",
    .m_doc = "The codec's patch transform in C.", .m_size = -1, .m_methods = module_methods};

PyMODINIT_FUNC PyInit__transform(void)
{
    if (PyType_Ready(&TransformType))
        return NULL;
    PyObject *module = PyModule_Create(&module_definition);
    if (!module || PyModule_AddObjectRef(module, "Transform", (PyObject *)&TransformType)) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
