/* The pseudo-transient iteration for Darcy flow in C with OpenMP, the peer of throughput.py:

       V <- beta V + R(u) * inverse,   u <- u + alpha V,
       R = source + sum_faces k (u_neighbour - u).

   Every array is ny rows of nx, row-major, with one further row before and after it. Face k[p]
   lies between cell p and the next one along its axis and is 0 beyond the last cell; u and k are
   0 in the further rows. So the loops need no branches: a face beyond the box has k = 0. */

#define RATE(p)                                                                                    \
    (beta * v[p] +                                                                                 \
     inverse[p] * (source[p] + kx[p] * (u[p + 1] - u[p]) - kx[p - 1] * (u[p] - u[p - 1]) +         \
                   ky[p] * (u[p + nx] - u[p]) - ky[p - nx] * (u[p] - u[p - nx])))

/* V in one pass over the cells, u in another. */
void two_pass(long steps, long ny, long nx, double *restrict u, double *restrict v,
              const double *restrict ky, const double *restrict kx, const double *restrict source,
              const double *restrict inverse, double alpha, double beta)
{
#pragma omp parallel
    for (long step = 0; step < steps; step++) {
#pragma omp for schedule(static)
        for (long p = 0; p < ny * nx; p++) v[p] = RATE(p);
#pragma omp for schedule(static)
        for (long p = 0; p < ny * nx; p++) u[p] += alpha * v[p];
    }
}

static void one_step(long ny, long nx, const double *restrict u, double *restrict next,
                     double *restrict v, const double *restrict ky, const double *restrict kx,
                     const double *restrict source, const double *restrict inverse, double alpha,
                     double beta)
{
#pragma omp for schedule(static)
    for (long p = 0; p < ny * nx; p++) {
        double rate = RATE(p);
        v[p] = rate;
        next[p] = u[p] + alpha * rate;
    }
}

/* V and u in one pass, u written to a second array; an even number of steps ends in u. */
void one_pass(long steps, long ny, long nx, double *u, double *second, double *v, const double *ky,
              const double *kx, const double *source, const double *inverse, double alpha,
              double beta)
{
#pragma omp parallel
    for (long step = 0; step < steps; step += 2) {
        one_step(ny, nx, u, second, v, ky, kx, source, inverse, alpha, beta);
        if (step + 1 < steps)
            one_step(ny, nx, second, u, v, ky, kx, source, inverse, alpha, beta);
    }
}

/* STREAM triad. */
void triad(long repeats, long n, double *restrict a, const double *restrict b,
           const double *restrict c, double s)
{
    for (long k = 0; k < repeats; k++) {
#pragma omp parallel for schedule(static)
        for (long p = 0; p < n; p++) a[p] = b[p] + s * c[p];
    }
}
