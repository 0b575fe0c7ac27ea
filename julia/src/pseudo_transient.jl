# Accelerated pseudo-transient iteration with automatic damping:
#
#     u_next = u + beta (u - u_before) + alpha R / PC,
#     alpha = 2 dtau^2 / (2 + c dtau),   beta = (2 - c dtau) / (2 + c dtau),
#     dtau = 0.99 * 2 / sqrt(lambda_max),   c = 2 sqrt(lambda_min),
#
# PC = -diag(dR/du), lambda_max a Gershgorin bound on PC^-1 dR/du, lambda_min the Rayleigh quotient
# of successive increments, re-estimated as it goes. It stops when ||R||_max / ||R(u=0)||_max is at
# most the tolerance, and so is a hundredth of the estimated error ||R/PC||_max / lambda_min of u
# relative to ||u||_max. The same as solvers/pseudo_transient.py, step by step.
# (Raess et al. 2022, Geosci. Model Dev. 15, 5757; dynamic relaxation after Otter et al. 1966.)

const SAFETY = 0.99
const FIRST = 7         # iterations until a nonlinear residual's preconditioner is first renewed
const RISE = 5.0        # of a nonlinear residual over the least so far: it goes back to where that was
const STALE = 1.2       # growth of the diagonal at which the preconditioner is renewed twice as often
const LEAST = 0.01      # of PC where u has a bound, over its rate: just above it, R may not change
const SMALLEST = 1e-3   # fraction of the usual step at which a nonlinear solve is given up
const ERROR = 100.0     # largest estimated error of u, in units of the tolerance
const NOTHING = 0.1     # residual above which nothing is solved, whatever the precision
const TINY = 1e-300     # no more than a guard against 0/0

"""
The convergence of a solve.

- `method`: "pseudo-transient", "continuation" or "explicit"
- `status`: `:converged`; `:round_off` (stopped above the tolerance by the limit of the
  arithmetic); `:max_iterations`; `:stagnated` (continuation); `:diverged`
- `iterations`, `residual`: how many, and the last ||R||_max / ||R(u=0)||_max
- `wall_time` in s, `throughput` in bytes/s: what an iteration cannot avoid to move (u and its
  rate read and written, known fields read) over its time
- `low`, `high`: the spectrum of PC^-1 dR/du
- `history`: iteration and residual at every check, a row each
"""
struct Report
    method::String
    status::Symbol
    iterations::Int
    residual::Float64
    wall_time::Float64
    throughput::Float64
    low::Float64
    high::Float64
    history::Matrix{Float64}
end

Base.show(io::IO, r::Report) = print(io, "$(r.status) after $(r.iterations) iterations, residual ",
    round(r.residual; sigdigits=2), ", $(round(r.throughput / 1e9; sigdigits=3)) GB/s")

"The status of a solve that ended: diverged, not at round-off, where a unit of it is as large as R(u=0)."
ended(status, residual) = status === :round_off && residual > NOTHING ? :diverged : status

"A residual `f(u, c)` to be driven to zero; `transposed`: its Jacobian is that of the model, transposed."
struct Operator{F,C}
    f::F
    c::C
    affine::Bool
    transposed::Bool
end

"""
    iterate!(sim, operator, pair; tolerance, max_iterations, low, check, most=Inf) -> Report

Drive the operator's residual to zero from the state `pair[1]`, in place. `low` is a first estimate
of lambda_min, or `nothing`; `check(iterations, residual)` is called from time to time. Beyond
`most` times ||R(u=0)||_max it is given up as diverged.
"""
function iterate!(sim::Simulation, operator::Operator, pair::Vector; tolerance::Real,
                  max_iterations::Integer, low::Union{Real,Nothing}, check, most::Real=Inf)
    start = time()
    (; kernels, topology, block, work, inverse) = sim
    (; f, c) = operator
    u, before = pair
    copyto!(before, u)
    longest = maximum(block.grid.shape)
    chunk = usual = max(16, longest ÷ 3)
    operator.affine || (chunk = FIRST)
    kept, old = operator.affine ? (u, u) : (similar(u), similar(u))
    alpha, caution, best = 1.0, 1.0, Inf
    high = precondition!(sim, operator.transposed)
    low = something(low, slowest(sim, high))
    scale, largest, correction, floor = start_norms(sim, operator, u)
    # Where u = 0 is another solution, the largest term in R.
    scale = max(scale > 0 ? scale : floor / eps(eltype(u)), TINY)

    converged(largest, correction) = largest <= tolerance * scale && correction <= ERROR * tolerance * low

    iterations = 0
    history = [(0.0, largest / scale)]
    status = converged(largest, correction) ? :converged : :running
    while status === :running
        dtau = SAFETY * caution * 2 / sqrt(high)
        damping = 2 * sqrt(low) * dtau
        last_alpha, alpha = alpha, 2 * dtau^2 / (2 + damping)
        beta = (2 - damping) / (2 + damping)
        pairs = fld(min(chunk, max_iterations - iterations) - 1, 2)
        if pairs < 0
            status = :max_iterations
            break
        end
        if !operator.affine && largest <= best
            best = largest
            copyto!(kept, u)
        end
        # On their way to a solution margins halt and move on, and the residual with them.
        advance!(sim, operator, before, u, pairs, alpha, beta, alpha / last_alpha)
        before, u = u, before   # an odd number of steps
        quotient, largest, correction, floor = measure(sim, operator, before, u)
        iterations += 2pairs + 1
        push!(history, (iterations, largest / scale))
        if !operator.affine && !(largest <= RISE * best)
            # The derivatives of R had changed too much on the way: again, with smaller steps.
            copyto!(u, kept)
            copyto!(before, kept)
            largest, alpha, caution = best, 1.0, caution / 2
            history[end] = (iterations, largest / scale)
            chunk = max(FIRST, chunk ÷ 2)
            pair .= (u, before)
            sim.linearised = false
            high = precondition!(sim, operator.transposed)
            caution < SMALLEST && (status = :diverged)
            check(iterations, largest / scale)
            continue
        end
        if !(largest < most * scale)
            status = :diverged
        elseif converged(largest, correction)
            status = :converged
        elseif largest < 100 * floor && stagnant(history, low, high)
            status = largest <= tolerance * scale ? :converged : :round_off
        end
        # At the limit of the arithmetic increments are noise, and say nothing of the spectrum.
        if 0 < quotient < high && largest > 100 * floor
            low = quotient
        end
        if !operator.affine && status === :running
            copyto!(old, inverse)
            pair .= (u, before)
            sim.linearised = false
            high = precondition!(sim, operator.transposed)
            growth, = peaks(sim, (/, own(sim, old), own(sim, inverse)))
            # Where the diagonal grows, steps are too long before the preconditioner is renewed.
            caution = min(1.1caution, 1 / sqrt(max(growth, 1.0)))
            chunk = growth > STALE ? max(FIRST, chunk ÷ 2) : min(2chunk, usual)
        end
        check(iterations, largest / scale)
    end
    pair .= (u, before)
    wall = time() - start
    residual = last(history)[2]
    return Report("pseudo-transient", ended(status, residual), iterations, residual, wall,
                  iterations * traffic(sim, c) / wall, low, high, table(history))
end

"A history of pairs, a row each."
table(history) = permutedims(reinterpret(reshape, Float64, history))

"The first estimate of lambda_min: the slowest mode of a homogeneous box."
slowest(sim, high) = 0.25 * high * (pi / (2 * maximum(sim.block.grid.shape)))^2

"`2 pairs + 1` steps, of which the last is in `before`; `rescale` turns the last increment into
alpha V. R before the last step is left in `sim.work[1]`."
function advance!(sim::Simulation{N,T}, operator, before, u, pairs, alpha, beta, rescale) where {N,T}
    (; kernels, topology, block, inverse, work) = sim
    (; f, c) = operator
    alpha, beta, rescale = T(alpha), T(beta), T(rescale)
    before .= u .- rescale .* (u .- before)
    ranges = map(r -> r .- 1, block.own)
    edge = hidden_edge(topology, ranges)
    for _ in 1:pairs
        step!(kernels, topology, ranges, edge, before, u, c, inverse, f, alpha, beta)
        step!(kernels, topology, ranges, edge, u, before, c, inverse, f, alpha, beta)
    end
    residual!(kernels, block.own, work[1], u, c, f)
    step!(kernels, topology, ranges, edge, before, u, c, inverse, f, alpha, beta)
    return
end

"True if the residual no longer halves over a span in which the slowest error, which falls by
exp(-2 sqrt(low/high)) an iteration, would decrease by a factor of 50."
function stagnant(history, low, high)
    span = 2 / sqrt(low / high)
    checks = max(4, ceil(Int, span / history[2][1]))
    length(history) < 2checks && return false
    residuals = [r for (_, r) in history[end-2checks+1:end]]
    return median(residuals[checks+1:end]) > median(residuals[1:checks]) / 2
end

function median(values)
    n = length(values)
    sorted = sort(values)
    return (sorted[(n + 1) ÷ 2] + sorted[n ÷ 2 + 1]) / 2
end

"Bytes an iteration cannot avoid to move: u and V read and written, PC and c read."
traffic(sim::Simulation{N,T}, c) where {N,T} = (5 + fields_in(c)) * prod(sim.model.grid.shape) * sizeof(T)
fields_in(::AbstractArray) = 1
fields_in(c::Union{Tuple,NamedTuple}) = sum(fields_in, c)

"||R(u=0)||_max, and the norms of R(u)."
function start_norms(sim, operator, u)
    (; kernels, block, work) = sim
    zero, r = work
    fill!(zero, 0)
    residual!(kernels, block.own, r, zero, operator.c, operator.f)
    scale, = peaks(sim, (abs, own(sim, r)))
    residual!(kernels, block.own, r, u, operator.c, operator.f)
    return (scale, norms(sim, u, r)...)
end

"The Rayleigh quotient of the last increment, and the norms of R."
function measure(sim::Simulation{N,T}, operator, before, u) where {N,T}
    (; kernels, block, work, inverse) = sim
    r_before, r = work
    residual!(kernels, block.own, r, u, operator.c, operator.f)
    fields = map(a -> own(sim, a), (u, before, r_before, r, inverse))
    above, below = totals(sim, ((u, b, r0, r1, _) -> (u - b) * (r0 - r1), fields...),
                          ((u, b, _, _, i) -> (u - b)^2 / i, fields...))
    return (above / (below + floatmin(T)), norms(sim, u, r)...)
end

"""
||R||_max, ||R/PC||_max relative to ||u||_max, and the round-off of one residual: the unit
round-off times the largest term in it. Where a constant is free, u is taken without it.
"""
function norms(sim::Simulation{N,T}, u, r) where {N,T}
    u, r, inverse = own(sim, u), own(sim, r), own(sim, sim.inverse)
    mean = null_space(sim.model) ? T(average(sim, u)) : zero(T)
    largest, correction, term, size = peaks(sim, (abs, r), ((r, i) -> abs(r * i), r, inverse),
        ((u, i) -> abs(u / i), u, inverse), (u -> abs(u - mean), u))
    return largest, correction / (size + floatmin(T)), eps(T) * term
end

"The largest of f >= 0 over cells, for each (f, fields...); over all processes. NaN where one is."
peaks(sim, terms...) = global_max(sim.topology, map(t -> Float64(fold(max, t...)), terms))

"The sum of f over cells, for each (f, fields...); over all processes."
totals(sim, terms...) = global_sum(sim.topology, map(t -> Float64(fold(+, t...)), terms))

average(sim, field, f=identity) = only(totals(sim, (f, field))) / prod(sim.model.grid.shape)

# Lazily: no field is made to be reduced.
fold(op, f, fields...) = reduce(op, Broadcast.instantiate(Broadcast.broadcasted(f, fields...)))

# On threads row by row, so that sums come out the same whatever their number.
function fold(op::O, f::F, fields::Vararg{SubArray{T,N,<:Array},K}) where {O,F,T,N,K}
    rows = CartesianIndices(Base.tail(axes(first(fields))))
    partial = Vector{T}(undef, length(rows))
    Threads.@threads for k in eachindex(partial)
        partial[k] = fold_row(op, f, rows[k], fields)
    end
    return reduce(op, partial)
end

function fold_row(::typeof(+), f::F, row, fields::NTuple{K,SubArray{T}}) where {F,K,T}
    total = zero(T)
    @inbounds @simd for i in axes(first(fields), 1)
        total += f(map(a -> a[i, row], fields)...)
    end
    return total
end

# Positive floats are ordered as their bits are, NaN above all: and integers' maximum vectorises.
function fold_row(::typeof(max), f::F, row, fields::NTuple{K,SubArray{T}}) where {F,K,T}
    Bits = T === Float64 ? Int64 : Int32
    largest = zero(Bits)
    @inbounds @simd for i in axes(first(fields), 1)
        largest = max(largest, reinterpret(Bits, abs(f(map(a -> a[i, row], fields)...))))
    end
    return reinterpret(T, largest)
end
